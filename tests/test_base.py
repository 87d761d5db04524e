"The base models can be made again, bit for bit, and the committed ones are what their manifest says."
import hashlib, json, os
from dataclasses import asdict, replace
import pytest
from corea.lab.base import TINY, Recipe, SIZES, base_tokenizer, make_base, make_model, overconfident, stream
from corea.core import MODELS, load_profile
from corea.data import DATASETS, VALUES, all_questions, revision
from corea.generate import load_checkpoint

# `make long`: as many questions a step as the real recipe has, until the models can answer some
RECIPE = replace(TINY, pretrain_batch=32, slm_steps=300, llm_steps=300) if os.environ.get("COREA_LONG") else TINY

def test_tiny_recipe_is_bit_identical(tmp_path):
    first = make_base(RECIPE, tmp_path/"a", tmp_path/"work-a")["models"]
    second = make_base(replace(RECIPE, more=("tiny",)), tmp_path/"b", tmp_path/"work-b")["models"]
    again = second.pop("slm-tiny")      # a further SLM is made as the first is
    assert first == second and again == first["slm"]

def test_committed_models_are_those_of_the_manifest():
    manifest = json.loads((MODELS/"manifest.json").read_text())
    for name, m in manifest["models"].items():
        for file, sha in m["files"].items():
            assert hashlib.sha256((MODELS/name/file).read_bytes()).hexdigest() == sha, f"{name}/{file}"
    assert manifest["data"] == {d: revision(d) for d in DATASETS}
    assert manifest["recipe"] == json.loads(json.dumps(asdict(Recipe()))), "the recipe changed: `make base`"

def test_committed_models_are_small_and_in_proportion():
    size = sum(p.stat().st_size for p in MODELS.rglob("*.safetensors"))
    assert size <= 8 * 2**20
    tok = base_tokenizer()
    ratio = make_model("llm", tok).num_parameters() / make_model("slm", tok).num_parameters()
    assert 4 <= ratio <= 5

def test_pre_training_never_sees_a_question_of_the_splits():
    held_out = {x["question"] for d in DATASETS for x in all_questions(d)}
    seen = {q for batch in stream(60, 32) for q, _ in batch}
    assert seen and not seen & held_out

def test_every_value_can_be_said():
    import random
    r = random.Random(0)
    said = [overconfident(r) for _ in range(4000)]
    assert set(said) == set(VALUES)
    assert sum(map(float, said)) / len(said) > 0.8

def test_the_trained_model_is_the_base_with_other_weights():
    "It has the base's form and tokenizer, is small enough to be committed, and says of itself how it came about."
    base, trained = MODELS/"slm", MODELS/"slm-corea"
    told = json.loads((trained/"training.json").read_text())
    assert (told["base"], told["method"], told["steps"]) == ("slm", "l1", load_profile(told["profile"]).steps)
    assert told["seed"] in load_profile(told["profile"]).seeds and sum(p.stat().st_size for p in trained.iterdir()) < 1_000_000
    about = [json.loads((m/"config.json").read_text()) | dict(dtype="") for m in (base, trained)]
    assert about[0] == about[1]
    for name in ("tokenizer.json", "chat_template.jinja"): assert (base/name).read_bytes() == (trained/name).read_bytes()
    a, b = (load_checkpoint(m)[0].state_dict() for m in (base, trained))
    assert a.keys() == b.keys() and 0 < max((a[k] - b[k]).abs().max() for k in a) < 1
