"The command `corea`: what it prints, what it refuses, how it ends."
import inspect, os, re, signal, subprocess, sys, tomllib
from pathlib import Path
from types import SimpleNamespace
import pytest
import corea.lab.command as command
import corea.lab.publish as publish
from corea.lab.command import main, parser, setting
from corea.core import LAYOUT, OPTIONS, PROFILES, CoreaError, load_profile
from corea.lab.grid import check_run, config_for
from corea.lab.plan import plan

ROOT = Path(__file__).resolve().parents[1]

@pytest.fixture
def ran(monkeypatch):
    "What `run` and `push` are called with; they do nothing."
    calls = []
    # in place of a module that loads all libraries; test_runs runs the true one from the command line
    run = lambda cfg, out=None, cluster=None, reuse=(): calls.append((cfg, out, cluster, *reuse)) or "records"
    monkeypatch.setitem(sys.modules, "corea.lab.experiments", SimpleNamespace(run=run))
    order = inspect.signature(publish.push)
    monkeypatch.setattr(publish, "push", lambda *a: calls.append(dict(order.bind(*a).arguments)) or dict(records="there", model=None))
    monkeypatch.setattr(command, "check_versions", lambda: {})
    monkeypatch.delenv("COREA_ANY_VERSIONS", raising=False)
    return calls

def differ(): raise CoreaError("installed: trl 0.1 instead of 1.16.0")

# values

@pytest.mark.parametrize("text,pair", [
    ("steps=3", ("steps", 3)), ("lr=5e-7", ("lr", 5e-7)), ("seeds=[7]", ("seeds", (7,))), ("seeds=[]", ("seeds", ())), ("engine=vllm", ("engine", "vllm")),
    ("slm=", ("slm", "")), ('slm="7"', ("slm", "7")), ("llm_server=http://host/v1?a=b", ("llm_server", "http://host/v1?a=b")),
    ('llm_training={"steps": 5}', ("llm_training", {"steps": 5})), ('variants={"a": {"seeds": [1]}}', ("variants", {"a": {"seeds": (1,)}})), ("slm={", ("slm", "{"))])
def test_values_are_json_or_text(text, pair): assert setting(text) == pair

@pytest.mark.parametrize("text,message", [
    ("stesp=3", "unknown field 'stesp'"), ("steps=many", "steps is 'many'"), ("steps=0", "steps is 0"), ("lr=NaN", "lr is nan"), ("seeds=4", "seeds is 4"),
    ("engine=none", "engine is 'none'"), ("steps", "--set steps:"), ("=3", "--set =3:"), ("name=x", "--set name=x:"), ("profile=x", "--set profile=x:"), ("", "--set :")])
@pytest.mark.parametrize("word", ["plan", "run", "name"])
def test_a_wrong_value_is_told_with_its_field(word, text, message, ran, capsys):
    assert main([word, "smoke", "--set", text]) == 1
    out, err = capsys.readouterr()
    assert err.startswith("corea: ") and err.count("\n") == 1 and message in err and not out and not ran

WRONG = [
    ('seeds=[1, 1]', "seeds holds 1 twice"), ('seeds=["1"]', "seeds holds '1'"), ('seeds=[true]', "seeds holds True"), ('seeds=[-1]', "seeds holds -1"),
    ('control_seeds=[2, 2]', "control_seeds holds 2 twice"), ('datasets=[]', "datasets is empty"), ('datasets=["calc", "calc"]', "datasets holds 'calc' twice"),
    ('datasets=[3]', "datasets holds 3"), ('train_set=', "train_set is empty"), ('methods=["rlvr", "rlvr"]', "methods holds 'rlvr' twice"),
    ('methods=["../x"]', "methods holds '../x'"), ('methods=["l1@n4"]', "methods holds 'l1@n4'"), ('rollouts=1', "rollouts is 1"), ('loss_type=ppo', "loss_type is 'ppo'"),
    ('scale_rewards=std', "scale_rewards is 'std'"), ('lr_schedule=cosin', "lr_schedule is 'cosin'"), ('lr_floor=2', "lr_floor is 2"),
    ('snapshots=[0]', "snapshots holds 0"), ('snapshots=["2"]', "snapshots holds '2'"), ('snapshots=[2, 2]', "snapshots holds 2 twice"),
    ('reward_weights=[1, 1]', "reward_weights is (1, 1)"), ('reward_weights=[1, 1, -1]', "reward_weights is"), ('llm_server=localhost:8000', "llm_server is no address"),
    ('variants={"a/b": {}}', "variant 'a/b'"), ('variants={"a": {"rollouts": 1}}', "variant 'a': rollouts is 1"), ('llm_training={"steps": 0}', "llm_training: steps is 0")]
LATER = [   # what only later modules know
    ('methods=["rlvr", "l9"]', "unknown method 'l9'"), ('variants={"a": {"methods": ["l9"]}}', "variant 'a': unknown method 'l9'"),
    ('datasets=["calc", "clac"]', "unknown data set 'clac'"), ('train_set=clac', "unknown data set 'clac'"), ('train_set=gsm8k', "'gsm8k' has no training questions"),
    ('n_train=4', "4 training questions do not fill one step of 8"), ('updates_per_step=7', "7"), ('llm_server=http://me:hush@host', "carries a password")]

@pytest.mark.parametrize("word,text,message", [("name", *w) for w in WRONG] + [("plan", *w) for w in LATER])
def test_what_a_run_would_refuse_is_told_at_once(word, text, message, capsys):
    assert main([word, "smoke", "--set", text]) == 1
    out, err = capsys.readouterr()
    assert err.startswith("corea: ") and err.count("\n") == 1 and message in err and not out and "hush" not in err

@pytest.mark.parametrize("text,message", LATER)
def test_a_run_refuses_what_a_plan_refuses_before_it_makes_a_folder(text, message, tmp_path, monkeypatch):
    import corea.lab.experiments as experiments
    monkeypatch.setattr(experiments, "ARTIFACTS", tmp_path/"artifacts")
    with pytest.raises(CoreaError, match=re.escape(message)) as e: experiments.run(load_profile("smoke", **dict([setting(text)])), tmp_path/"out", progress=False)
    assert "\n" not in str(e.value) and not list(tmp_path.iterdir())

def test_snapshots_beyond_the_last_step_are_dropped_with_a_word(capsys):
    assert main(["plan", "laptop", "--set", "steps=10"]) == 0       # the example of the command itself
    assert capsys.readouterr().err == "training ends at step 10: no snapshot is taken at 20, 40, 60\n"
    assert load_profile("laptop", steps=40).snapshots == (20, 40) and load_profile("laptop", steps=10, snapshots=(5, 10)).snapshots == (5, 10)
    capsys.readouterr()
    own = config_for(load_profile("laptop", variants={"short": dict(steps=30)}), "l1@short-s4")
    assert (own.steps, own.snapshots) == (30, (20,)) and not capsys.readouterr().out

def test_every_profile_passes():
    for name in PROFILES: check_run(load_profile(name))

@pytest.mark.parametrize("field", ["loss_type", "scale_rewards", "lr_schedule"])
def test_the_choices_are_those_of_the_libraries(field):
    import torch, trl.trainer.grpo_trainer as grpo
    from transformers import get_scheduler
    source = inspect.getsource(grpo)
    for choice in OPTIONS[field]:
        if field != "lr_schedule": assert f'"{choice}"' in source
        else:
            optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.)
            more = {"min_lr_rate": 0.1} if choice == "cosine_with_min_lr" else {}
            get_scheduler(choice, optimizer, num_warmup_steps=1, num_training_steps=4, scheduler_specific_kwargs=more)

# words

def test_plan_is_that_of_the_changed_profile(capsys):
    assert main(["plan", "smoke", "--set", "steps=2", "--set", "seeds=[0, 1]", "--set", "steps=3"]) == 0
    out, err = capsys.readouterr()
    assert out.strip() == plan(load_profile("smoke", steps=3, seeds=(0, 1))) and not err

def test_what_does_not_fit_is_a_warning(monkeypatch, capsys):
    monkeypatch.setattr(command, "cards", lambda: [8.0])
    assert main(["plan", "gpu-ci", "--set", "n_train=64"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("profile gpu-ci: ") and re.fullmatch(r"corea: warning: profile gpu-ci wants 1 GPU.*\n", err)

@pytest.mark.parametrize("found,name", [([], "laptop"), ([24.0], "gpu-ci"), ([80.0], "paper-1gpu"), ([80.0] * 8, "paper")])
def test_auto_is_settled_once(found, name, monkeypatch, capsys):
    "Only the name goes where a shell reads it; the reason goes beside it."
    monkeypatch.setattr("corea.core.cards", lambda: found)
    assert main(["name", "auto"]) == 0
    out, err = capsys.readouterr()
    assert out == f"{name}\n" and f"profile {name}" in err

@pytest.mark.parametrize("word", ["plan", "run", "name"])
@pytest.mark.parametrize("name", ["nonsense", "", "../laptop", "-x"])
def test_an_unknown_profile_is_told_with_those_that_are_known(word, name, ran, capsys):
    assert main([word, "--", name]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"corea: unknown profile {name!r}") and err.count("\n") == 1 and all(p in err for p in PROFILES) and not ran

def test_run(ran, capsys):
    assert main(["run", "smoke", "--cluster", "s.json", "--set", "workers=1", "--reuse", "a", "--reuse", "b"]) == 0
    assert main(["run", "smoke", "--out", "there", "--set", "steps=2"]) == 0
    assert main(["run"]) == 0
    assert ran == [(load_profile("smoke", workers=1), None, "s.json", "a", "b"), (load_profile("smoke", steps=2), "there", None), (load_profile(), None, None)]
    assert capsys.readouterr().out == "records\n" * 3

def test_another_configuration_does_not_take_the_place_of_a_profile(ran, capsys):
    assert main(["run", "smoke", "--set", "workers=1", "--set", "steps=2"]) == 1
    assert "steps" in (err := capsys.readouterr().err) and "--out" in err and not ran
    assert main(["run", "smoke", *(x for k in LAYOUT for x in ("--set", f"{k}={getattr(load_profile('smoke'), k)}"))]) == 0

def test_other_versions_stop_a_run_unless_allowed(ran, monkeypatch, capsys):
    monkeypatch.setattr(command, "check_versions", differ)
    assert main(["run", "smoke"]) == 1 and not ran
    assert capsys.readouterr().err == "corea: installed: trl 0.1 instead of 1.16.0\n"
    monkeypatch.setenv("COREA_ANY_VERSIONS", "1")
    assert main(["run", "smoke"]) == 0 and len(ran) == 1
    assert capsys.readouterr().err == "corea: warning: installed: trl 0.1 instead of 1.16.0\n"

def test_other_versions_do_not_stop_a_plan(monkeypatch):
    monkeypatch.setattr(command, "check_versions", differ)
    assert main(["plan", "smoke"]) == 0

def test_push_sends_only_if_told_to(ran, capsys):
    assert main(["push", "smoke", "l1-s0", "--repo", "me/mine", "--out", "there"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == "records: there" and "not on this disk" in out and "--yes" in err
    assert main(["push", "laptop", "--repo", "me/mine", "--yes"]) == 0
    assert ran == [dict(profile="smoke", name="l1-s0", repo="me/mine", out="there", upload=False),
                   dict(profile="laptop", name="", repo="me/mine", out=None, upload=True)]
    assert not capsys.readouterr().err

@pytest.mark.parametrize("words,message", [(["--repo", "mine"], "is no repository"), (["--repo", "me/mine", "--yes"], "HF_TOKEN is not set"),
                                           (["--repo", "me/mine", "--out", "there"], "no records in")])
def test_push_refuses_in_one_line(words, message, monkeypatch, capsys):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    assert main(["push", "not-run", *words]) == 1
    err = capsys.readouterr().err
    assert err.startswith("corea: ") and message in err and err.count("\n") == 1

@pytest.mark.parametrize("words", [[], ["fly"], ["push", "laptop"], ["run", "smoke", "--sett", "a=1"]])
def test_usage(words, capsys):
    with pytest.raises(SystemExit) as e: parser().parse_args(words)
    assert e.value.code == 2 and "usage: corea" in capsys.readouterr().err

@pytest.mark.parametrize("word", command.ELSEWHERE)
def test_words_of_later_notebooks_are_listed_here_and_explained_there(word, capsys):
    assert word in parser().format_help()
    with pytest.raises(SystemExit) as e: main([word, "--help"])
    assert e.value.code == 0 and f"usage: corea {word}" in capsys.readouterr().out

# how it ends

def test_ctrl_c_is_told(monkeypatch, capsys):
    def stop(*_): raise KeyboardInterrupt
    monkeypatch.setattr("corea.lab.plan.plan", stop)
    assert main(["plan", "smoke"]) == 130
    assert capsys.readouterr().err == command.STOPPED + "\n"

WAITS = """
import multiprocessing, sys, time, types
from concurrent.futures import ProcessPoolExecutor
import corea.lab.command as command
def run(*_, **__):
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as here:
        here.submit(abs, 1).result()
        some = [here.submit(time.sleep, 600) for _ in range(3)]
        print("at work", flush=True)
        some[-1].result()
sys.modules['corea.lab.experiments'], command.check_versions = types.SimpleNamespace(run=run), dict
sys.exit(command.main(["run", "smoke"]))
"""

def test_ctrl_c_ends_a_run_without_waiting_for_chains_to_come():
    "That its workers end with it is shown in test_runs."
    p = subprocess.Popen([sys.executable, "-c", WAITS], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert p.stdout.readline() == "at work\n"
        p.send_signal(signal.SIGINT)
        assert p.wait(timeout=300) == 130
    finally: os.killpg(p.pid, signal.SIGKILL)
    assert command.STOPPED in p.stderr.read()

def test_the_name_of_a_profile_waits_for_no_library():
    "The Makefile asks for it before anything else."
    code = "import sys, corea.lab.command as c; s = c.main(['name', 'gpu-ci']); sys.exit(s or bool({'torch', 'pandas'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "gpu-ci\n"), done.stderr

def test_installed_as_a_command():
    scripts = tomllib.loads((ROOT/"pyproject.toml").read_text())["project"]["scripts"]
    assert scripts["corea"] == "corea.lab.command:main"
