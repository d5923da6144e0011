"""Pictures for people: a photograph under its classes' colours, with a legend."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from atrouscaffe.data.palette import VOID, color_map
from atrouscaffe.errors import ArgumentError, DataError

__all__ = ["draw_boxes", "encode_picture", "overlay"]

ROW_PX, SWATCH_PX, GAP_PX = 20, 12, 6
FONT_SCALE = 0.42


def overlay(image: np.ndarray, labels: np.ndarray, names: Sequence[str], *, alpha: float = 0.55,
            legend: bool = True) -> np.ndarray:
    """Return the image under its label map's colours, with the classes that occur named below.

    Parameters
    ----------
    image : (H, W, 3) uint8, B, G, R
    labels : (H, W) uint8
    names : sequence of str
    alpha : float
        Share of the colour, 0 to 1; class 0 is left clear.
    legend : bool

    Returns
    -------
    (H + legend, W, 3) uint8, B, G, R
    """
    if labels.shape != image.shape[:2]:
        raise ArgumentError(f"labels: expected the image's shape {image.shape[:2]}, got {labels.shape}")
    if not 0 <= alpha <= 1:
        raise ArgumentError(f"alpha: expected 0 to 1, got {alpha}")
    colors = color_map()[:, ::-1].astype(np.float32)
    shown = labels != 0
    result = image.copy()
    mixed = (1 - alpha) * image[shown] + alpha * colors[labels[shown]]
    result[shown] = mixed.round().astype(np.uint8)
    if not legend:
        return result
    present = [int(i) for i in np.unique(labels) if i]
    entries = [("void" if i == VOID else names[i] if i < len(names) else f"class {i}", colors[i]) for i in present]
    return np.concatenate([result, _legend(entries, image.shape[1])]) if entries else result


def draw_boxes(image: np.ndarray, objects: Sequence[tuple[int, str, float, Sequence[float]]]) -> np.ndarray:
    """Return the image with boxes around objects, and their classes named below.

    Parameters
    ----------
    image : (H, W, 3) uint8, B, G, R
    objects : sequence of (class, name, score, (xmin, ymin, xmax, ymax))
        Boxes in pixels; each bears its score.

    Returns
    -------
    (H + legend, W, 3) uint8, B, G, R
    """
    import cv2

    colors = color_map()[:, ::-1].astype(np.float32)
    result = image.copy()
    named: dict[int, str] = {}
    for label, name, score, box in reversed(objects):  # the best on top
        named[label] = name
        low, high = (tuple(round(side) for side in box[i:i + 2]) for i in (0, 2))
        color = colors[1 + (label - 1) % (VOID - 1)].tolist()
        cv2.rectangle(result, low, high, color, 2)
        text = f"{score:.2f}"
        width, height = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, FONT_SCALE, 1)[0]
        foot = max(low[1], height + GAP_PX)
        cv2.rectangle(result, (low[0], foot - height - GAP_PX), (low[0] + width, foot), color, cv2.FILLED)
        cv2.putText(result, text, (low[0], foot - GAP_PX // 2), cv2.FONT_HERSHEY_SIMPLEX, FONT_SCALE, (255, 255, 255),
                    1, cv2.LINE_AA)
    entries = [(named[label], colors[1 + (label - 1) % (VOID - 1)]) for label in sorted(named)]
    return np.concatenate([result, _legend(entries, image.shape[1])]) if entries else result


def _legend(entries: Sequence[tuple[str, np.ndarray]], width: int) -> np.ndarray:
    """Return a white strip with a swatch and a name for each entry, in as many rows as it takes."""
    import cv2

    places, x, y = [], GAP_PX, 0
    for name, color in entries:
        need = SWATCH_PX + 2 * GAP_PX + cv2.getTextSize(name, cv2.FONT_HERSHEY_SIMPLEX, FONT_SCALE, 1)[0][0]
        if x > GAP_PX and x + need > width:
            x, y = GAP_PX, y + ROW_PX
        places.append((name, color, x, y))
        x += need + GAP_PX
    strip = np.full((y + ROW_PX, width, 3), 255, np.uint8)
    top = (ROW_PX - SWATCH_PX) // 2
    for name, color, x, y in places:
        strip[y + top : y + top + SWATCH_PX, x : x + SWATCH_PX] = color
        cv2.putText(strip, name, (x + SWATCH_PX + GAP_PX, y + ROW_PX - GAP_PX), cv2.FONT_HERSHEY_SIMPLEX, FONT_SCALE,
                    (40, 40, 40), 1, cv2.LINE_AA)
    return strip


def encode_picture(image: np.ndarray, suffix: str = ".png") -> bytes:
    """Return a BGR or grey picture as a file of this kind."""
    import cv2

    done, data = cv2.imencode(suffix, image)
    if not done:
        raise DataError(f"a picture of shape {image.shape} cannot be written as {suffix}")
    return data.tobytes()
