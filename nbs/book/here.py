"The map at the head of each chapter: `from here import you_are_here`."
import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch

CHAPTERS = ("Sure of\neverything", "When to ask\nthe big one", "Paying for\nhonesty", "GRPO in\none page",
            "Before\nand after", "Choosing τ\nunseen", "What came\nout", "Simple\nthings")
PARTS = {"the problem": (1, 2), "the training": (3, 5), "the use": (6, 6), "the verdict": (7, 8)}
BLUE, PALE, GREY, INK = "#0072B2", "#cfe4f2", "#8c959f", "#24292f"

def you_are_here(
    n # number of the chapter, from 1
): # a matplotlib `Figure`
    "The eight chapters in a row: this one filled, those read tinted, those to come white."
    fig, ax = plt.subplots(figsize=(9, 1.35), dpi=90)
    fig.subplots_adjust(0, 0, 1, 1)
    ax.set(xlim=(.45, 8.55), ylim=(-.52, 1))
    ax.axis("off")
    for k, title in enumerate(CHAPTERS, 1):
        fill = BLUE if k == n else PALE if k < n else "white"
        ax.add_patch(FancyBboxPatch((k - .42, .05), .84, .85, "round,pad=0,rounding_size=.06", fc=fill,
                                    ec=BLUE if k <= n else GREY, mutation_aspect=1))
        color = "white" if k == n else INK if k < n else GREY
        ax.text(k, .74, k, ha="center", va="center", color=color, size=11, weight="bold")
        ax.text(k, .35, title, ha="center", va="center", color=color, size=8.5)
        if k > 1: ax.annotate("", (k - .43, .47), (k - .57, .47), arrowprops=dict(arrowstyle="->", color=GREY))
    for name, (first, last) in PARTS.items():
        inside = first <= n <= last
        ax.plot([first - .4, last + .4], [-.1, -.1], color=BLUE if inside else GREY, lw=2 if inside else 1)
        ax.text((first + last) / 2, -.32, name, ha="center", va="center", size=9, color=BLUE if inside else GREY,
                weight="bold" if inside else "normal")
    plt.close(fig)
    return fig
