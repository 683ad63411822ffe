#!/usr/bin/env bash
#SBATCH --job-name=emojax
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=emojax-%j.log
#SBATCH --signal=B:TERM@300
# One training over all nodes of a SLURM job; every process takes all GPUs of its node.
#
#   sbatch scripts/slurm_train.sh --config=configs/convnext_tiny.py --workdir=/shared/runs/mine --config.data.path=...
#
# Options of SLURM (--nodes, --partition, --gpus-per-node) go before the script's name and win over the lines above.
# --workdir must be on a disk that all nodes share. JAX finds the other processes through SLURM's own variables.
#
# Five minutes before the time limit, and when the job is preempted, SIGTERM is passed on: the run saves its state at
# that very update and ends with code 143. The job then puts itself into the queue again, and goes on where it was. Any
# other code ends the job. EMOJAX names the command where it is not on PATH, for example EMOJAX="/env/bin/emojax".
set -euo pipefail

if [ $# -eq 0 ]; then
  echo "usage: sbatch $0 --config=RECIPE.py --workdir=FOLDER [--config.KNOB=VALUE ...]" >&2
  exit 2
fi
: "${SLURM_JOB_ID:?this script is run by sbatch}"
read -r -a emojax <<<"${EMOJAX:-emojax}"

# In the background, so that this shell hears signals while it waits. SLURM shall not kill those that still save when the
# first process ends; when one dies, the others notice by themselves (parallel.heartbeat).
srun --kill-on-bad-exit=0 "${emojax[@]}" train "$@" --config.parallel.distributed=1 &
step=$!

stopped=0
# shellcheck disable=SC2329 # called by the trap
stop() {
  stopped=1
  # To the processes of the job's steps, not to this shell, which has it already.
  scancel --signal=TERM "$SLURM_JOB_ID" || true
}
trap stop TERM INT

code=0
wait "$step" || code=$?
while kill -0 "$step" 2>/dev/null; do # the signal has ended `wait`, not the training, which is saving
  code=0
  wait "$step" || code=$?
done

# 2 to 8 mean that a person is needed (emojax --help): once more would end the same. Nor again and again after a crash, or
# 9, which a lost process leaves behind: SLURM itself requeues a job whose node has failed.
if [ "$code" -eq 143 ] || { [ "$stopped" -eq 1 ] && [ "$code" -ge 128 ]; }; then
  echo "slurm_train: ended with $code after a signal, into the queue again: it goes on from the last checkpoint" >&2
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
