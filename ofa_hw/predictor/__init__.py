"""Predictors: architecture features to accuracy."""
