"""MLflow: where its store is, and what a run holds of a result that DVC has."""
