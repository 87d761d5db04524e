"Answer with confidence, as a task of inspect_ai: inspect eval inspect_confidence.py@confidence -T questions=questions.jsonl"
import asyncio, sys
from pathlib import Path
from inspect_ai import Task, task
from inspect_ai.dataset import Sample, json_dataset
from inspect_ai.scorer import SampleScore, Score, accuracy, metric, scorer
from inspect_ai.solver import generate
sys.path.insert(0, str(Path(__file__).parent))
import lm_eval_confidence as shared

def sample(doc): return Sample(input=shared.doc_to_text(doc), target=doc["gold"], metadata=dict(doc=doc))

# inspect_ai asks of a metric that its parameter be annotated
def over_rows(measure):
    "A metric of all rows at once."
    def value(scores: list[SampleScore]) -> float: return float(measure([tuple(s.score.metadata["row"]) for s in scores]))
    return value

@metric
def states_confidence(): return over_rows(lambda rows: sum(c is not None for c, *_ in rows) / len(rows))
@metric
def ece(): return over_rows(shared.ece)
@metric
def auroc(): return over_rows(shared.auroc)
@metric
def benefit_auroc(): return over_rows(shared.benefit_auroc)

@scorer(metrics=[accuracy(), states_confidence(), ece(), auroc(), benefit_auroc()])
def with_confidence():
    async def score(state, target):
        found = await asyncio.to_thread(shared.process_results, state.metadata["doc"], [state.output.completion])
        return Score(value=found["acc"], explanation=state.output.completion, metadata=dict(row=list(found["ece"])))
    return score

@task
def confidence(questions="questions.jsonl"):
    "Each question is answered once: of several epochs the confidences of the first would count."
    return Task(dataset=json_dataset(str(Path(questions).resolve()), sample), solver=generate(), scorer=with_confidence())
