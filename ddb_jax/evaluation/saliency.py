"""Where a classifier looks: Grad-CAM of networks that end in average pooling and a linear layer."""

import numpy as np


def grad_cam(feature_map: np.ndarray, kernel: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Grad-CAM (Selvaraju et al., arXiv 1610.02391, equations 1 and 2) of one class an image.

    Between the last map of features and the logit of class c lie the mean over the h x w places and
    the kernel, so that the gradient of the logit is kernel[f, c] / (h w) at every place, and the
    weighted sum of the channels is, up to that factor, CAM (their section 3 and appendix A).

    Args:
        feature_map: float [B, h, w, F], what is averaged over h and w.
        kernel: float [F, K], of the linear layer.
        classes: int [B], the class of each image whose evidence is shown.

    Returns:
        float32 [B, h, w] in 0..1: evidence for the class, relative to the image's largest value; 0
        everywhere without evidence.
    """
    weights = np.asarray(kernel, np.float32)[:, classes]  # [F, B]
    evidence = np.einsum("bhwf,fb->bhw", np.asarray(feature_map, np.float32), weights)
    evidence = np.maximum(evidence, 0.0)
    greatest = evidence.max(axis=(1, 2), keepdims=True)
    return evidence / np.where(greatest > 0, greatest, 1.0)
