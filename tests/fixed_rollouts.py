"""Completions that follow from the question and the place in its group alone, so that trainings in several layouts can be compared.

`launch("fixed_rollouts:part", job, ...)` trains with them where this folder is on the path. A step's rewards and advantages
go to `seen.jsonl` in the run's folder, and the ids of its processes to `pids`. `COREA_TEST_STOP` names a rank, the TRL step before
which it stops, and how: kill, raise or sleep.
"""
import json, os, signal, time
from pathlib import Path
from unittest.mock import patch
import torch, trl.trainer.grpo_trainer as grpo
from corea.core import CoreaError, append_records
from corea.trainer import train_part, trainer_class

def write(question, gold, k):
    "The k-th completion: two of three are right, lengths and confidences differ."
    return " ".join([question] * (k % 3)) + f" \\boxed{{{gold if k % 3 else 0}}} \\confidence{{{k % 11 / 10}}}"

def fixed(self, prompt_ids, *_):
    "In place of TRL's generation."
    rank, step = self.accelerator.process_index, self.state.global_step
    who, when, how = os.environ.get("COREA_TEST_STOP", "-1 0 -").split()
    if (rank, step) == (int(who), int(when)):
        if how == "kill": os.kill(os.getpid(), signal.SIGKILL)
        if how == "raise": raise CoreaError("stopped by a test")
        time.sleep(300)
    tokenizer = self.processing_class
    known = {tuple(tokenizer.apply_chat_template(r["prompt"], add_generation_prompt=True, return_dict=False)): r for r in self.train_dataset}
    first, out = rank * len(prompt_ids), []
    for i, ids in enumerate(prompt_ids):
        row, k = known[tuple(ids)], (first + i) % self.num_generations
        out.append((tokenizer.encode(write(row["question"], row["gold"], k), add_special_tokens=False)
                    + [tokenizer.eos_token_id] * (k != 7))[:self.max_completion_length])
    return out, None

def install(cfg, put):
    "Fix the completions and who is in which mini-batch; `put` is `setattr`, or one that undoes itself."
    cls, shuffle = trainer_class(), grpo.shuffle_sequence_dict
    score = cls._generate_and_score_completions
    def scored(self, inputs):
        out = score(self, inputs)
        if self.accelerator.is_main_process:
            append_records(Path(self.args.output_dir)/"seen.jsonl", [dict(time=time.time(),
                rewards={k: list(v) for k, v in self._logs["rewards"].items()}, advantages=list(self._logs["advantages"]),
                sharded=any(type(p).__name__ == "DTensor" for p in self.model.parameters()))])
        return out
    def ordered(rows):
        order = lambda n: torch.tensor(sorted(range(n), key=lambda i: i % cfg["updates_per_step"]))
        with patch("torch.randperm", order): return shuffle(rows)
    put(cls, "_generate_single_turn", fixed)
    put(cls, "_generate_and_score_completions", scored)
    put(grpo, "shuffle_sequence_dict", ordered)

def part(job):
    "What each process runs."
    out = Path(job).parent
    (out/"pids").mkdir(exist_ok=True)
    (out/"pids"/str(os.getpid())).touch()
    install(json.loads(Path(job).read_text())["cfg"], setattr)
    train_part(job)
