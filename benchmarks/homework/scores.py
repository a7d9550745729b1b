"""What a network is worth on test images: scikit-learn's metrics."""

from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support


def decided(logits: np.ndarray) -> np.ndarray:
    """The class of each row of logits: (N, C), the largest entry's; (N, 1), 1 where the sigmoid
    is above ½, else 0."""
    return logits.argmax(axis=1) if logits.shape[1] > 1 else (logits[:, 0] > 0).astype(np.int64)


def scores(said: np.ndarray, true: np.ndarray, binary: bool) -> dict[str, float]:
    """Accuracy, precision, recall and F1 of the classes said, (N,). binary: of class 1; else the
    mean over the classes ("macro"). A precision of what was never said counts as 0."""
    average = "binary" if binary else "macro"
    precision, recall, f1, _ = precision_recall_fscore_support(
        true, said, average=average, zero_division=0.0
    )
    return {
        "test_accuracy": float(accuracy_score(true, said)),
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(f1),
    }


def confusion(said: np.ndarray, true: np.ndarray, classes: int) -> Any:
    """(classes, classes): how many of each true class (row) were said to be which (column)."""
    return confusion_matrix(true, said, labels=range(classes))
