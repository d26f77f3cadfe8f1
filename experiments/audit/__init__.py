"""`wmplan audit`: does the imagined order of one scene's candidates match what they truly lead to, is that due to the
imagination (placebos), and do the critics know when they are wrong?"""
