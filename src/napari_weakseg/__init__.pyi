"""What the lazy names of `__init__.py` are, for type checkers and editors; a test keeps the two alike."""

from .api import evaluate as evaluate
from .api import predict as predict
from .api import replay as replay
from .api import segment as segment
from .api import train as train
from .case import Case as Case
from .case import Cohort as Cohort
from .errors import WeaksegError as WeaksegError
from .io.cohort import read_cohort as read_cohort
from .io.nifti import read_volume as read_volume
from .io.nifti import write_mask as write_mask
from .methods import get_method as get_method
from .methods import list_methods as list_methods
from .methods import new_recipe as new_recipe
from .plugin.layers import from_layer as from_layer
from .plugin.layers import show as show
from .prompts import ExtremePoints as ExtremePoints
from .prompts import ImageLabel as ImageLabel
from .prompts import Scribbles as Scribbles
from .prompts import Structure as Structure
from .volume import Volume as Volume

__version__: str
__all__: list[str]
