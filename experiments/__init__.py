"""What a user runs: the command line, studies, training, validation, MLflow, the report and the notebooks."""
