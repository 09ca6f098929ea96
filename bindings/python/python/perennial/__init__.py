"""Keep the index when the embedding model changes.

A :class:`Bridge` maps the embeddings of a new encoder into the space of an old one, :class:`DualQuery` adds the old encoder's embedding of the
query, :func:`certify` says whether such queries may search what the old encoder stored, and :func:`advise` compares all ways to handle the
upgrade. Every array is ``[n, dim]``; contiguous float32 is used without a copy, and the interpreter's lock is released while the work is done.
"""

from . import metrics, runs
from ._perennial import PerennialError, __version__
from .bridge import Bridge, DualQuery
from .certificates import advise, certify
from .losses import HocLoss, hoc_loss
from .results import Advice, Certificate, CertifiedTask, Measured, TaskAdvice, Way
from .simplex import simplex_prototypes

__all__ = [
    "Advice",
    "Bridge",
    "Certificate",
    "CertifiedTask",
    "DualQuery",
    "HocLoss",
    "Measured",
    "PerennialError",
    "TaskAdvice",
    "Way",
    "__version__",
    "advise",
    "certify",
    "hoc_loss",
    "metrics",
    "runs",
    "simplex_prototypes",
]
