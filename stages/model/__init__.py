"""Models as arrays see them: estimators, folds, metrics and what a fitted model shows of itself."""
