"""The page that shows what the pipeline made: reports/index.html."""
