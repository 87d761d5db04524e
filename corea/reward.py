import numpy as np
from collections import defaultdict
from corea.answer import parse, grade
def _txt(c): return c if isinstance(c,str) else c[0]["content"]
def _rows(completions, gold, kind):
    P=[parse(_txt(c)) for c in completions]; return P,np.array([grade(p.answer,g,k) for p,g,k in zip(P,gold,kind)],float)
def _auroc(s,y):
    from scipy.stats import rankdata
    r=rankdata(s); n1=y.sum(); n0=len(y)-n1
    return (r[y==1].sum()-n1*(n1+1)/2)/(n1*n0) if n1 and n0 else float('nan')
def correctness(prompts,completions,gold,kind,log_metric=None,**kw):
    P,r=_rows(completions,gold,kind)
    if log_metric:
        c=np.array([np.nan if p.confidence is None else p.confidence for p in P]); ok=~np.isnan(c)
        b=np.clip((c[ok]*10).astype(int),0,9); e=sum(abs(r[ok][b==i].mean()-c[ok][b==i].mean())*(b==i).mean() for i in range(10) if (b==i).any())
        for k,v in dict(pass_at_1=r.mean(),ece=e,auroc=_auroc(c[ok],r[ok]),output_ratio=ok.mean(),mean_confidence=c[ok].mean()).items(): log_metric(k,float(v))
    return r.tolist()
def format(prompts,completions,gold,kind,**kw):
    P,_=_rows(completions,gold,kind); return [(1+(p.answer is not None)+(p.confidence is not None))/3 for p in P]
def make_rewards(method):
    if method=='rlvr': return [correctness,format]
    def confidence(prompts,completions,gold,kind,question_id,**kw):
        P,r=_rows(completions,gold,kind); g=defaultdict(list)
        for q,x in zip(question_id,r): g[q].append(x)
        out=[]
        for p,x,q in zip(P,r,question_id):
            t=np.mean(g[q]) if method in('l1','l2') else x
            out.append(-1. if p.confidence is None else float(-abs(p.confidence-t)) if method in('l1','sample_l1') else float(-(p.confidence-t)**2))
        return out
    return [correctness,format,confidence]
