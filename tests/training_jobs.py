"""Trainings for tests that kill them: each in a process of its own, forked from one that has imported what all of them need.

Functions of a module, so that the process finds them by name.
"""
import multiprocessing, os, signal, sys

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["torch", "trl.trainer.grpo_trainer", "trl.trainer.sft_trainer"])

def start(job, folder, **settings):
    "A training in another process."
    p = processes.Process(target=alone, args=(job, str(folder)), kwargs=settings)
    p.start()
    return p

def ended(p):
    "Its exit code; of a killed process minus the signal."
    p.join()
    return p.exitcode

def alone(job, folder, **settings):
    "One thread, nothing on stderr."
    import torch
    torch.set_num_threads(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    job(folder, **settings)

def grpo(folder, **settings):
    from corea.core import load_profile
    from corea.trainer import train_grpo
    train_grpo(load_profile("smoke", save_every=1, **settings), "l1", 0, folder, progress=False)

def grpo_killed_at_the_end(folder):
    "Before the final model is written."
    import corea.trainer as trainer
    save = trainer.save_model
    trainer.save_model = lambda m, k, path: os.kill(os.getpid(), signal.SIGKILL) if path.name == "final" else save(m, k, path)
    grpo(folder)

def sft(folder):
    from corea.core import MODELS
    from corea.generate import load_checkpoint
    from corea.lab.warm import reply_rows, train_sft
    tokenizer = load_checkpoint(MODELS/"slm")[1]
    rows = reply_rows(tokenizer, [dict(question=f"Work out {k} (a) + 2.", reply=rf" (a) + 2 = {k+2} \boxed{{{k+2}}} \confidence{{0.5}}") for k in range(24)])
    train_sft(MODELS/"slm", rows, folder, 1e-3, 2, 4, 0, save_every=2)
