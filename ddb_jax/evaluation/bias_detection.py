"""How well the amplifier's scores find the bias-conflicting images, where those are known."""

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score


def metrics_where_known(
    scores: np.ndarray | None, flagged: np.ndarray, truth: np.ndarray
) -> dict[str, float | int | None]:
    """`detection_metrics` of the images whose bias is known; of all where it is known of none.

    Args:
        scores: As there; None where nothing ranks the images, which leaves AUROC and average
            precision undefined.
        flagged: As there.
        truth: int [N], 1 for a conflicting image, 0 for an aligned one, -1 where it is unknown.
    """
    known = truth >= 0
    ranked = np.zeros(len(truth)) if scores is None else scores
    if known.any():
        figures = detection_metrics(ranked[known], flagged[known], truth[known])
    else:
        figures = detection_metrics(ranked, flagged, None)
    if scores is None:
        figures |= {"bias_auroc": None, "bias_average_precision": None}
    return figures


def detection_metrics(
    scores: np.ndarray, flagged: np.ndarray, conflicting: np.ndarray | None
) -> dict[str, float | int | None]:
    """Detection of bias-conflicting images, the positive class.

    Args:
        scores: float [N], higher is more suspicious (the amplifier's loss).
        flagged: bool [N], flagged as bias-conflicting.
        conflicting: bool [N], the truth; None where it is unknown.

    Returns:
        bias_auroc; bias_average_precision, whose baseline is bias_prevalence, the share of
        conflicting images; bias_precision and bias_recall of `flagged`; bias_flagged, its count.
        Undefined figures are None: all but the count if the truth is unknown, AUROC and average
        precision if all images are of one kind, precision if none is flagged, recall if none
        conflicts.

    Raises:
        ValueError: The lengths differ, or a score is not finite.
    """
    scores, flagged = np.asarray(scores), np.asarray(flagged, bool)
    result = {
        "bias_auroc": None,
        "bias_average_precision": None,
        "bias_prevalence": None,
        "bias_precision": None,
        "bias_recall": None,
        "bias_flagged": int(flagged.sum()),
    }
    if not np.isfinite(scores).all():
        raise ValueError("A bias score is not finite.")
    if len(scores) != len(flagged) or (conflicting is not None and len(conflicting) != len(scores)):
        raise ValueError("Scores, flags and the known bias must be of one length.")
    if conflicting is None or len(scores) == 0:
        return result
    conflicting = np.asarray(conflicting, bool)
    result["bias_prevalence"] = float(conflicting.mean())
    if conflicting.any() and not conflicting.all():
        result["bias_auroc"] = float(roc_auc_score(conflicting, scores))
        result["bias_average_precision"] = float(average_precision_score(conflicting, scores))
    if flagged.any():
        result["bias_precision"] = float(conflicting[flagged].mean())
    if conflicting.any():
        result["bias_recall"] = float(flagged[conflicting].mean())
    return result
