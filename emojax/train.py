"""run(config, workdir): wires the parts, then the loop. Read `run`, then `_Run.go`: that is the whole program."""

from __future__ import annotations

import dataclasses
import math
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from clu import parameter_overview
from jax.sharding import Mesh

from emojax import averaging, checkpoint, data, files, losses, metrics, models, optim, parallel, plots, predict, report
from emojax import stages as stages_lib
from emojax import step as step_lib
from emojax import workdir as workdir_lib
from emojax.config import Config
from emojax.data import pipeline
from emojax.errors import CheckpointError, TrainingError
from emojax.monitor import Monitor
from emojax.preprocess import normalise
from emojax.stages import Stage, due
from emojax.types import Dataset, TrainState
from emojax.validate import validate
