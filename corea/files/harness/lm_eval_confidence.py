"Answer with confidence: what the task in lm_eval_confidence.yaml calls. Reading, grading and scores are corea's own."
from corea import metrics
from corea.answer import parse, prompt
from corea.grading import grade

def doc_to_text(doc): return prompt(doc["question"])

def process_results(doc, results):
    "A row for each question: stated confidence, whether the answer is right, whether the large model's is."
    said = parse(results[0])
    right = int(grade(said.answer, doc["gold"], doc.get("kind") or "math"))
    row = said.confidence, right, doc.get("llm_correct")
    return dict(acc=right, states_confidence=int(said.confidence is not None), ece=row, auroc=row, benefit_auroc=row)

def ece(rows): return metrics.ece(*zip(*((c, y) for c, y, _ in rows)))
def auroc(rows): return metrics.auroc(*zip(*((c, y) for c, y, _ in rows)))

def benefit_auroc(rows):
    "nan where nobody says whether the large model is right."
    known = [row for row in rows if row[2] is not None]
    return metrics.benefit_auroc(*zip(*known)) if known else float("nan")
