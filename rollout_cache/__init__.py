"""A content-addressed store of what imagination has already answered, so that no study imagines twice."""
