"""Ten common corruptions of small images at five severities, as in CIFAR-10-C.

After Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations", ICLR 2019, arXiv 1903.12261; the parameters per severity are those of the CIFAR-10-C
that they published. NumPy, SciPy and Pillow do the work of their OpenCV, scikit-image and
ImageMagick, so the pixels are near theirs, not equal; results are rounded where theirs are cut off.
Frost is ours in part: theirs lays photographs of frost over the image, ours drawn ice.
"""

import io
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image
from scipy import ndimage

from ddb_jax.data.sets.frost import frost_crops

Generators = Sequence[np.random.Generator]
Corruption = Callable[[np.ndarray, int, Generators], np.ndarray]

SEVERITIES = (1, 2, 3, 4, 5)
_GREY = np.float32([0.299, 0.587, 0.114])  # ITU-R BT.601
_TURQUOISE = np.float32([175, 238, 238]) / 255.0
_MUD = np.float32([63, 42, 20]) / 255.0


def corrupt(
    images: np.ndarray, name: str, severity: int, seed: int, keys: np.ndarray
) -> np.ndarray:
    """The images under one corruption; every image's randomness is from `seed` and its key alone.

    Args:
        images: uint8 [N, H, W, 3]; the parameters are meant for 32 by 32.
        name: One of CORRUPTIONS.
        severity: 1 to 5.
        seed: At least 0.
        keys: int [N] or [N, K], at least 0: which image each is, in the whole data set.

    Returns:
        uint8 [N, H, W, 3].

    Raises:
        ValueError: There is no such corruption or severity.
    """
    if name not in CORRUPTIONS:
        raise ValueError(f"there is no corruption {name!r}, there is {', '.join(CORRUPTIONS)}.")
    if severity not in SEVERITIES:
        raise ValueError(f"severity is {severity}, it must be between 1 and {SEVERITIES[-1]}.")
    corrupted = np.empty_like(images)
    for start in range(0, len(images), 256):  # small enough for the floats to stay in the cache
        part = slice(start, start + 256)
        rngs = [np.random.default_rng([seed, *np.atleast_1d(key)]) for key in keys[part]]
        corrupted[part] = CORRUPTIONS[name](images[part], severity, rngs)
    return corrupted


def snow(images: np.ndarray, severity: int, rngs: Generators) -> np.ndarray:
    """Flakes from thresholded, enlarged noise, blurred along a line, over a whitened image."""
    mean, deviation, zoom, threshold, radius, sigma, keep = (
        (0.1, 0.2, 1.0, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1.0, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    )[severity - 1]
    x = _to_float(images)
    flakes = _enlarged_middle(_noise(x, mean, deviation, rngs), zoom)
    flakes = np.where(flakes < threshold, 0, flakes).clip(0, 1)
    angles = np.array([rng.uniform(-135.0, -45.0) for rng in rngs])
    flakes = _motion_blur(flakes, radius, sigma, np.deg2rad(angles))
    flakes = (flakes + flakes[:, ::-1, ::-1])[..., None]
    whitened = np.maximum(x, 1.5 * (x @ _GREY)[..., None] + 0.5)
    return _to_uint8(keep * x + (1 - keep) * whitened + flakes)


def frost(images: np.ndarray, severity: int, rngs: Generators) -> np.ndarray:
    """The image, dimmed, plus a random piece of a sheet of ice (see `frost.py`)."""
    image_weight, frost_weight = ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))[
        severity - 1
    ]
    ice = frost_crops(images.shape[1:3], rngs)
    return _to_uint8(image_weight * _to_float(images) + frost_weight * ice)


def defocus_blur(images: np.ndarray, severity: int, rngs: Generators) -> np.ndarray:
    """Convolution with a disk whose edge is softened by a 3 by 3 Gaussian."""
    radius, softness = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))[severity - 1]
    y, x = np.mgrid[-3:4, -3:4]
    disk = (x**2 + y**2 <= radius**2).astype(float)
    soft = np.exp(-(np.arange(-1, 2) ** 2) / (2 * softness**2))
    kernel = ndimage.correlate(disk, np.outer(soft, soft), mode="constant")
    kernel = (kernel / kernel.sum()).astype(np.float32)
    return _to_uint8(ndimage.correlate(_to_float(images), kernel[None, :, :, None], mode="mirror"))


def brightness(images: np.ndarray, severity: int, rngs: Generators) -> np.ndarray:
    """The value of HSV raised; at equal hue and saturation all channels grow by one factor."""
    x = _to_float(images)
    value = x.max(-1, keepdims=True)
    raised = np.minimum(value + (0.05, 0.1, 0.15, 0.2, 0.3)[severity - 1], 1.0)
    return _to_uint8(np.where(value > 0, x * raised / np.maximum(value, 1e-6), raised))


def contrast(images: np.ndarray, severity: int, rngs: Generators) -> np.ndarray:
    """Every channel drawn towards its mean over the image."""
    x = _to_float(images)
    mean = x.mean((1, 2), keepdims=True)
    return _to_uint8(mean + (0.75, 0.5, 0.4, 0.3, 0.15)[severity - 1] * (x - mean))


def spatter(images: np.ndarray, severity: int, rngs: Generators) -> np.ndarray:
    """Drops of water (severities 1 to 3) or of mud (4 and 5), where blurred noise is high.

    CIFAR-10-C takes the edges of the drops with Canny's detector and equalises the histogram of the
    distance from them; here the edges are the drops' rims and the distance is scaled to 0..1.
    """
    mean, deviation, blur, threshold, strength, mud = (
        (0.62, 0.1, 0.7, 0.7, 0.5, False),
        (0.65, 0.1, 0.8, 0.7, 0.5, False),
        (0.65, 0.3, 1.0, 0.69, 0.5, False),
        (0.65, 0.1, 0.7, 0.69, 0.6, True),
        (0.65, 0.1, 0.5, 0.68, 0.6, True),
    )[severity - 1]
    x = _to_float(images)
    liquid = _gaussian_blur(_noise(x, mean, deviation, rngs), blur)
    drops = liquid > threshold
    if mud:
        cover = _gaussian_blur(drops.astype(np.float32), strength)
        cover = np.where(cover < 0.8, 0, cover)[..., None]
        return _to_uint8(x * (1 - cover) + _MUD * cover)
    shade = np.where(drops, liquid, 0) * _lit_relief(drops)
    shade *= strength / np.maximum(shade.max((1, 2), keepdims=True), 1e-6)
    return _to_uint8(x + shade[..., None] * _TURQUOISE)


def frosted_glass_blur(images: np.ndarray, severity: int, rngs: Generators) -> np.ndarray:
    """Every pixel takes the place of itself or of a neighbour above, left or both; blurred twice.

    The paper speaks of pixels changing places. The code that made CIFAR-10-C overwrites one of the
    two before it is read, so that its images hold copies; so do these.
    """
    sigma, passes = ((0.05, 1), (0.25, 1), (0.4, 1), (0.25, 2), (0.4, 2))[severity - 1]
    x = _to_uint8(_gaussian_blur(_to_float(images), sigma))
    height, width = images.shape[1:3]
    y_index, x_index = np.mgrid[2:height, 2:width]
    for _ in range(passes):
        steps = np.stack([rng.integers(0, 2, (2, *y_index.shape)) for rng in rngs])
        source = x[np.arange(len(x))[:, None, None], y_index - steps[:, 0], x_index - steps[:, 1]]
        x[:, 2:, 2:] = source
    return _to_uint8(_gaussian_blur(_to_float(x), sigma))


def jpeg(images: np.ndarray, severity: int, rngs: Generators) -> np.ndarray:
    """Written as JPEG and read again."""
    decoded = np.empty_like(images)
    for i, image in enumerate(images):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=(80, 65, 58, 50, 40)[severity - 1])
        decoded[i] = Image.open(file)
    return decoded


def pixelate(images: np.ndarray, severity: int, rngs: Generators) -> np.ndarray:
    """Reduced and enlarged again, by box filters."""
    height, width = images.shape[1:3]
    factor = (0.95, 0.9, 0.85, 0.75, 0.65)[severity - 1]
    small, box = (int(width * factor), int(height * factor)), Image.Resampling.BOX
    pixelated = np.empty_like(images)
    for i, image in enumerate(images):
        pixelated[i] = Image.fromarray(image).resize(small, box).resize((width, height), box)
    return pixelated


def saturate(images: np.ndarray, severity: int, rngs: Generators) -> np.ndarray:
    """The saturation of HSV times a factor plus an offset; grey has the hue of red, as there."""
    factor, offset = ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2))[severity - 1]
    x = _to_float(images)
    value = x.max(-1, keepdims=True)
    chroma = value - x.min(-1, keepdims=True)
    saturation = chroma / np.maximum(value, 1e-6)
    # How far below the value each channel lies, of the chroma: this is the hue.
    depth = np.where(chroma > 0, (value - x) / np.maximum(chroma, 1e-6), np.float32([0, 1, 1]))
    return _to_uint8(value * (1 - (saturation * factor + offset).clip(0, 1) * depth))


CORRUPTIONS: dict[str, Corruption] = {
    "snow": snow,
    "frost": frost,
    "defocus_blur": defocus_blur,
    "brightness": brightness,
    "contrast": contrast,
    "spatter": spatter,
    "frosted_glass_blur": frosted_glass_blur,
    "jpeg": jpeg,
    "pixelate": pixelate,
    "saturate": saturate,
}


def _to_float(images: np.ndarray) -> np.ndarray:
    return images.astype(np.float32) / np.float32(255)


def _to_uint8(x: np.ndarray) -> np.ndarray:
    return np.rint(x.clip(0, 1) * 255).astype(np.uint8)


def _noise(x: np.ndarray, mean: float, deviation: float, rngs: Generators) -> np.ndarray:
    """Normal noise float32 [B, H, W]."""
    return np.float32([rng.normal(mean, deviation, x.shape[1:3]) for rng in rngs])


def _gaussian_blur(x: np.ndarray, sigma: float) -> np.ndarray:
    """Of [B, H, W, ...], to four deviations, edges repeated."""
    return ndimage.gaussian_filter(x, sigma, mode="nearest", truncate=4, axes=(1, 2))


def _enlarged_middle(x: np.ndarray, zoom: float) -> np.ndarray:
    """The middle of [B, H, H], enlarged linearly by `zoom` to [B, H, H]."""
    side = x.shape[1]
    part = int(np.ceil(side / zoom))
    whole = round(part * zoom)
    at = np.linspace(0, part - 1, whole)[(whole - side) // 2 :][:side]
    weights = np.stack([np.interp(at, np.arange(part), row) for row in np.eye(part)], 1)
    weights = weights.astype(np.float32)
    start = (side - part) // 2
    return weights @ x[:, start : start + part, start : start + part] @ weights.T


def _motion_blur(x: np.ndarray, radius: int, sigma: float, angles: np.ndarray) -> np.ndarray:
    """Of [B, H, W] along half a line of 2 radius + 1 pixels with half a Gaussian, edges repeated.

    This is ImageMagick's motion blur; angles [B] are in radians, from the x to the y axis.
    """
    height, width = x.shape[1:]
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    weights = (weights / weights.sum()).astype(np.float32)
    rows, columns = np.arange(height), np.arange(width)
    images = np.arange(len(x))[:, None, None]
    blurred = np.zeros_like(x)
    for step, weight in zip(steps, weights, strict=True):
        y = (rows + np.rint(step * np.sin(angles)).astype(int)[:, None]).clip(0, height - 1)
        z = (columns + np.rint(step * np.cos(angles)).astype(int)[:, None]).clip(0, width - 1)
        blurred += weight * x[images, y[:, :, None], z[:, None, :]]
    return blurred


def _lit_relief(drops: np.ndarray) -> np.ndarray:
    """Drops bool [B, H, W] as a relief lit from the upper left, smoothed: float32 of 0..1."""
    rim = drops & ~ndimage.binary_erosion(drops, np.ones((1, 3, 3)), border_value=1)
    # The step between images is so long that each only sees its own rims.
    height = ndimage.distance_transform_edt(~rim, sampling=(1e6, 1, 1)).clip(0, 20)
    height = ndimage.uniform_filter(height.astype(np.float32), (1, 3, 3))
    height /= np.maximum(height.max((1, 2), keepdims=True), 1e-6)
    emboss = np.float32([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
    relief = ndimage.correlate(height, emboss[None]).clip(0, 1)
    return ndimage.uniform_filter(relief, (1, 3, 3))
