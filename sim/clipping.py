"""Clipping points that the search for a quantiser's step tries, as shares of the largest value.

In one list, because torch and numpy space theirs differently by a unit in the last place, and a step that differs by that much
moves codes that lie between two levels. Without torch: cost paths read it too.
"""

CLIPPING_SHARES: tuple[float, ...] = (
    0.3,
    0.32956523,
    0.35913044,
    0.38869566,
    0.41826087,
    0.4478261,
    0.4773913,
    0.5069565,
    0.53652173,
    0.56608695,
    0.59565216,
    0.6252174,
    0.65478265,
    0.68434787,
    0.7139131,
    0.7434783,
    0.7730435,
    0.8026087,
    0.83217394,
    0.86173916,
    0.8913044,
    0.9208696,
    0.9504348,
    0.98,
)
"""24 of them, evenly from 0.3 to 0.98, each a float32."""
