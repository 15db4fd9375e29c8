"""Large vision models: prompt with pairs of pictures, and the model does the same to a query."""

from lvm.model import DEFAULT_WEIGHTS, LVM, LVMConfig
from lvm.rules import Task
from lvm.tasks import TASKS

__all__ = ["DEFAULT_WEIGHTS", "LVM", "TASKS", "LVMConfig", "Task"]
