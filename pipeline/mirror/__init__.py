"""What is stored, shown in another system: MLflow."""
