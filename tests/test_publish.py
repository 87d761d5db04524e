"What is published can be read back, agrees with the records, and holds nothing that was to stay."
import dataclasses, json, os, re, subprocess, sys
from types import SimpleNamespace
import pandas as pd, pytest
import corea.lab.publish as publish
from corea.core import FIGURES, MODELS, SCHEMA, CoreaError, check_table, digest, load_profile
from corea.data import find_dataset, register
from corea.metrics import auroc, ece
from corea.lab.publish import ALONE, HIDDEN, TABLES, check_public, data_table, public, push, usage
from corea.lab.records import load_records, made_up_records
from corea.trainer import LOG

KEY = "hf_" + "x" * 34

@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    "Made-up records of two sets with two training seeds; only to be read."
    return made_up_records(tmp_path_factory.mktemp("records"), load_profile("smoke", datasets=("calc", "queue"), seeds=(0, 1)))

@pytest.fixture
def ran(folder, tmp_path, monkeypatch):
    "A project in which the smoke profile has left its records and the weights of l1-s0, but not of l1-s1."
    records = tmp_path/"figures"/"smoke"/"records"
    records.mkdir(parents=True)
    for p in folder.iterdir(): (records/p.name).write_bytes(p.read_bytes())
    final = tmp_path/"artifacts"/"smoke"/"made up"/"train"/"l1-s0"/"final"
    final.mkdir(parents=True)
    for name in ("model.safetensors", "tokenizer.json", "training_args.bin", "optimizer.pt", "trainer_state.json", "rng_state.pth"):
        (final/name).write_text("{}")
    (final/"config.json").write_text(json.dumps(dict(model_type="qwen3", _name_or_path="/home/me/slm")))
    monkeypatch.setattr(publish, "FIGURES", tmp_path/"figures")
    monkeypatch.setattr(publish, "ARTIFACTS", tmp_path/"artifacts")
    for k in ("HF_TOKEN", "COREA_SECRET"): monkeypatch.delenv(k, raising=False)
    return SimpleNamespace(records=records, final=final, out=tmp_path/"out", cfg=load_records(records).cfg)

def go(ran, name="l1-s0", **kw): return push("smoke", name, "me/mine", ran.out, n_boot=20, **kw)

def written(folder):
    "All that a reader of a published folder can see, as one text."
    texts = [pd.read_parquet(p).to_csv() if p.suffix == ".parquet" else p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()]
    return "\n".join(texts + [str(p.relative_to(folder)) for p in folder.rglob("*")])

# what is there

def test_every_column_of_the_records_is_explained():
    assert set(LOG.values()) <= set(SCHEMA)
    for path in [p for p in (FIGURES/"laptop"/"records").glob("*.csv*") if not p.name.startswith("texts_")]:
        frame = pd.read_csv(path)
        assert set(frame) <= set(SCHEMA), path
        check_table(frame, path)

def test_cards_are_read_back_and_every_table_loads(ran):
    from datasets import load_dataset
    from huggingface_hub import DatasetCard, ModelCard
    made = go(ran)
    card = ModelCard.load(made["model"]/"README.md")
    assert card.data.license == "apache-2.0" and card.data.library_name == "transformers" and card.data.model_name == "corea l1-s0"
    assert {r.metric_value for r in card.data.eval_results} and all(r.task_type == "text-generation" for r in card.data.eval_results)
    configs = DatasetCard.load(made["records"]/"README.md").data.to_dict()["configs"]
    assert [c["config_name"] for c in configs] == list(TABLES)
    models = 2 + 2 * len(ran.cfg.methods) + len(ran.cfg.control_seeds)
    for table, split, rows in (("answers", "test", models * len(ran.cfg.datasets) * ran.cfg.n_test * ran.cfg.samples),
                               ("answers", "calibration", models * len(ran.cfg.datasets) * ran.cfg.n_calibration * ran.cfg.samples),
                               ("steps", "test", 7 * ran.cfg.snapshot_questions * ran.cfg.samples), ("training", "train", 6 * ran.cfg.steps)):
        f = load_dataset(str(made["records"]), table, split=split, cache_dir=str(ran.out/"cache")).to_pandas()
        assert len(f) == rows and set(f) <= set(SCHEMA), table

def test_numbers_of_the_card_are_those_of_the_records(ran):
    from huggingface_hub import ModelCard
    results = ModelCard.load(go(ran)["model"]/"README.md").data.eval_results
    f = pd.read_csv(ran.records/"l1-s0.csv.gz").query("split == 'test'")
    own = {d: dict(accuracy=g.correct.mean(), ece=ece(g.confidence, g.correct), auroc=auroc(g.confidence, g.correct),
                   output_ratio=g.confidence.notna().mean()) for d, g in f.groupby("dataset")}
    checked = [(r.metric_value, own[r.dataset_name][r.metric_type]) for r in results if r.metric_type in own[r.dataset_name]]
    assert len(checked) == 4 * len(ran.cfg.datasets) and all(abs(a - b) < 1e-4 for a, b in checked)
    for r in results:
        lo, hi = map(float, re.search(r"interval (\S+) to (\S+)", r.metric_name).groups())
        assert lo - .001 <= r.metric_value <= hi + .001

def test_leaderboards_are_told_of_whole_published_sets_alone(ran, monkeypatch):
    from huggingface_hub import parse_eval_result_entries
    import yaml
    monkeypatch.delenv("COREA_DATA", raising=False)
    row = dict(place="math500", dataset="math500", questions=500, ci_low=.4, ci_high=.6)
    scored = pd.DataFrame([row | dict(metric=m, value=.5) for m in ("slm_pass1", "ece", "auroc", "tau")])
    cfg = dataclasses.replace(ran.cfg, datasets=("calc", "math500"))
    told = publish.leaderboard_entries(cfg, scored, "me/mine")
    [entry] = parse_eval_result_entries(yaml.safe_load(told.pop("math500.yaml")))
    assert not told and (entry.dataset_id, entry.value) == (find_dataset("math500").hub, 50) and "AUROC 0.500 [0.400, 0.600]" in entry.notes
    assert entry.dataset_revision == find_dataset("math500").splits["test"].source.revision and entry.source_url.endswith("me/mine-records")
    assert not publish.leaderboard_entries(cfg, scored.assign(questions=499), "me/mine"), "a part of a set is no result on it"
    monkeypatch.setattr(publish, "scores", lambda *_: scored)
    folder = ran.out/"whole"
    folder.mkdir(parents=True)
    monkeypatch.setattr(publish, "model_card", lambda *_: SimpleNamespace(content=""))
    publish.write_model(SimpleNamespace(cfg=cfg, records=load_records(ran.records)), "l1-s0", folder, "me/mine")
    assert [p.name for p in (folder/".eval_results").iterdir()] == ["math500.yaml"]

def test_weights_and_tokenizer_and_nothing_else(ran):
    made = go(ran)["model"]
    assert {p.name for p in made.iterdir()} == {"README.md", "config.json", "model.safetensors", "tokenizer.json"}
    assert json.loads((made/"config.json").read_text())["_name_or_path"] == "slm"
    assert json.loads((ran.final/"config.json").read_text())["_name_or_path"] == "/home/me/slm", "the checkpoint itself was changed"

def test_without_weights_the_records_go_alone(ran):
    made = go(ran, "l1-s1")
    assert made["model"] is None and (made["records"]/"README.md").exists() and not (ran.out/"model").exists()

def test_the_first_model_of_l1_unless_another_is_named(ran):
    assert "# corea l1-s0" in (push("smoke", out=ran.out, n_boot=20)["model"]/"README.md").read_text()
    with pytest.raises(CoreaError, match="no small model 'l1-s9'.*base.*l1-s0"): go(ran, "l1-s9")

def test_models_of_an_earlier_run_are_left_out(ran):
    (ran.records/"l1-s7.csv.gz").write_bytes((ran.records/"l1-s1.csv.gz").read_bytes())
    made = go(ran)["records"]
    assert (made/"answers"/"test"/"l1-s1.parquet").exists() and not list(made.rglob("l1-s7*"))

def test_the_committed_records(tmp_path, monkeypatch):
    "As in a fresh clone: records of the laptop run, no artifacts."
    monkeypatch.setattr(publish, "ARTIFACTS", tmp_path/"none")
    made = push("laptop", out=tmp_path/"out", n_boot=20)
    assert made["model"] is None
    text = (made["records"]/"README.md").read_text() + (made["records"]/"run.json").read_text()
    assert not HIDDEN.search(text) and str(tmp_path) not in text

def test_the_lines_of_the_card_run():
    cfg = load_records(FIGURES/"laptop"/"records").cfg
    run = subprocess.run([sys.executable, "-c", usage(cfg, str(MODELS/"slm"), 0.5)], capture_output=True, text=True)
    assert run.returncode == 0 and re.fullmatch(r"\S+ (\d\.\d+|None) (slm|llm) [\d.]+", run.stdout.strip()), run.stderr[-2000:]

# what is not

def test_private_text_appears_nowhere(ran):
    "A set of which neither ids nor answers may be shown: its numbers go out, and rows still pair by question."
    find = find_dataset("queue")
    register(SimpleNamespace(name="closed", domain=find.domain, kind="exact", paper="GPQA", revision="1", rows=None, private=True))
    for p in ran.records.glob("*.csv.gz"):
        f = pd.read_csv(p, dtype={"question_id": str})
        if "dataset" not in f: continue
        mine = f.dataset == "queue"
        f["answer"] = "shown"
        f.loc[mine, "answer"] = "PRIVATE-ANSWER"
        f.loc[mine, "question_id"] = "PRIVATE-QUESTION " + f.question_id[mine]
        f.loc[mine, "dataset"] = "closed"
        f.to_csv(p, index=False)
    run = json.loads((ran.records/"run.json").read_text())
    run["config"]["datasets"] = ["closed" if d == "queue" else d for d in run["config"]["datasets"]]
    (ran.records/"run.json").write_text(json.dumps(run))
    made = go(ran)
    text = written(made["records"]) + "".join(p.read_text() for p in made["model"].iterdir())
    assert "PRIVATE" not in text and "shown" in text and "numbers only" in text
    a, b = (pd.read_parquet(made["records"]/"answers"/"test"/f"{m}.parquet").query("dataset == 'closed'") for m in ("l1-s0", "llm"))
    assert a.question_id.nunique() == ran.cfg.n_test and a.question_id.tolist() == b.question_id.tolist()
    assert a.question_id.iloc[0] == digest(pd.read_csv(ran.records/"l1-s0.csv.gz").query("dataset == 'closed' and split == 'test'").question_id.iloc[0])
    assert a.correct.notna().all() and a.answer.isna().all()

def test_a_set_that_nobody_knows_is_not_published(ran):
    run = json.loads((ran.records/"run.json").read_text())
    run["config"]["train_set"] = "unheard-of"
    (ran.records/"run.json").write_text(json.dumps(run))
    with pytest.raises(CoreaError, match="unknown data set 'unheard-of'"): go(ran)
    assert not ran.out.exists() or not list(ran.out.iterdir())

def test_paths_and_addresses_of_one_machine_are_cut(ran):
    run = json.loads((ran.records/"run.json").read_text())
    run["config"] |= dict(slm="/data/me/qwen", llm="C:\\models\\big", llm_server="http://10.9.8.7:8000/v1")
    (ran.records/"run.json").write_text(json.dumps(run))
    made = go(ran)
    text = written(made["records"]) + (made["model"]/"README.md").read_text()
    assert not re.search(r"/data/me|C:\\|10\.9\.8\.7", text) and "qwen" in text and '"big"' in text.replace("'", '"')

@pytest.mark.parametrize("text", [f"key {KEY}", "see /home/me/run", "in /data/x", "at C:\\x", "sk-" + "a" * 24, "AKIA" + "A" * 16, "PASS" * 5])
def test_a_key_or_path_stops_everything(text, tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", "PASS" * 5)
    (tmp_path/"README.md").write_text(text)
    with pytest.raises(CoreaError, match="README.md holds a key or a path") as e: check_public(tmp_path)
    assert text not in str(e.value)

def test_what_is_no_path_passes(tmp_path):
    (tmp_path/"README.md").write_text("https://x.org/home/page, and/or, \\confidence{0.9}, nbs/models, 1/2, </s>, Q: why")
    check_public(tmp_path)
    assert public(dict(a="Qwen/Qwen2.5", b=["1/2", "</s>", ""], c=None, d=True)) == dict(a="Qwen/Qwen2.5", b=["1/2", "</s>", ""], c=None, d=True)

def test_a_key_in_a_card_leaves_no_folder(ran, monkeypatch):
    monkeypatch.setattr(publish, "citation", lambda: KEY)
    with pytest.raises(CoreaError, match="holds a key"): go(ran)
    assert not list(ran.out.rglob("*"))

def test_a_folder_of_somebody_else_is_never_replaced(ran):
    (ran.out/"records").mkdir(parents=True)
    (ran.out/"records"/"mine.txt").write_text("keep")
    with pytest.raises(CoreaError, match="something else than an earlier dry run"): go(ran)
    assert (ran.out/"records"/"mine.txt").read_text() == "keep"

def test_a_dry_run_replaces_the_one_before(ran):
    first = go(ran)
    (first["records"]/"answers"/"test"/"stale.parquet").write_text("old")
    assert not list(go(ran)["records"].rglob("stale*"))

# sending

class Hub:
    "Stands for `HfApi`: keeps what it is asked."
    asked, fails = [], None
    def __init__(self, token): self.token = token
    def create_repo(self, repo, **kw): self.asked.append(("create", repo, kw["repo_type"], kw["exist_ok"]))
    def upload_folder(self, **kw):
        if self.fails: raise self.fails
        self.asked.append(("commit", kw["repo_id"], kw["repo_type"], self.token))
        return SimpleNamespace(commit_url=f"https://hub/{kw['repo_id']}")

@pytest.fixture
def hub(monkeypatch):
    import huggingface_hub
    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    monkeypatch.setattr(Hub, "asked", [])
    return Hub

def test_a_dry_run_asks_nothing(ran, hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", KEY)
    made = go(ran)
    assert hub.asked == [] and KEY not in written(made["records"]) + (made["model"]/"README.md").read_text()

def test_one_commit_each(ran, hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", KEY)
    assert go(ran, upload=True) == dict(records="https://hub/me/mine-records", model="https://hub/me/mine")
    assert hub.asked == [("create", "me/mine-records", "dataset", True), ("commit", "me/mine-records", "dataset", KEY),
                         ("create", "me/mine", "model", True), ("commit", "me/mine", "model", KEY)]

def test_a_failure_is_told_without_the_token(ran, hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", KEY)
    monkeypatch.setattr(hub, "fails", OSError(f"403 for Bearer {KEY}\nmore"))
    with pytest.raises(CoreaError, match="could not send .* to me/mine-records .OSError: 403 for Bearer the token") as e: go(ran, upload=True)
    assert "\n" not in str(e.value) and e.value.__cause__ is None and (ran.out/"records"/"README.md").exists()

@pytest.mark.parametrize("given,message", [(dict(), "HF_TOKEN is not set"), (dict(repo=publish.PLACE), "name your own"), (dict(repo="../../x"), "is no repository"),
                                           (dict(profile="nothing"), "HF_TOKEN is not set")])
def test_told_before_anything_is_written(ran, hub, given, message):
    with pytest.raises(CoreaError, match=message): push(**dict(profile="smoke", repo="me/mine", out=ran.out, upload=True) | given)
    assert not ran.out.exists() and hub.asked == []

def test_nothing_was_run(ran):
    with pytest.raises(CoreaError, match="no records in .*run the profile first"): push("nothing", out=ran.out)

def test_published_sets_are_told_with_source_and_licence():
    f = data_table(load_profile("paper")).set_index("set")
    assert f.source["`gsm8k`"] == "openai/gsm8k" and f.source["`deepmath`"] == "zwhe99/DeepMath-103K"
    assert f.licence["`olympiadbench`"] == "Apache 2.0" and f.source["`olympiadbench`"].startswith("https://")
    assert list(f.index[f.shown == "numbers only"]) == ["`gpqa`"]
