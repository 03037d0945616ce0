"""Medians, ratios, and the tables that are made of them."""

from statistics import median


def summary(samples, measure):
    values = [getattr(sample, measure) for sample in samples]
    return {"median": median(values), "min": min(values), "max": max(values), "all": values}


def result(workload, samples, calls):
    """One workload's figures, as they go into the JSON. `samples` and `calls` are by program."""
    measures = ("wall", "cpu", "rss", "rate") if workload.seconds else ("wall", "cpu", "rss")
    tools = {name: {measure: summary(taken, measure) for measure in measures} for name, taken in samples.items()}
    for name, counted in calls.items():
        tools[name]["calls"] = counted
    return {"workload": workload.number, "title": workload.title, "tools": tools,
            "ratios": ratios(workload, tools), "target": workload.target}


def ratios(workload, tools):
    """haul's median divided by the best peer's; of rates the best is the highest."""
    found = {}
    for measure in ("rate",) if workload.seconds else ("wall", "cpu"):
        theirs = {name: tools[name][measure]["median"] for name in workload.tools
                  if name in tools and workload.against in ("", name)}
        if "haul" not in tools or not theirs:
            continue
        best = (max if measure == "rate" else min)(theirs, key=theirs.get)
        if theirs[best] > 0:
            found[measure] = {"ratio": tools["haul"][measure]["median"] / theirs[best], "best": best}
    return found


def table(outcome):
    """One workload as Markdown."""
    timed = any("rate" in figures for figures in outcome["tools"].values())
    counted = any("calls" in figures for figures in outcome["tools"].values())
    head = [f"**{outcome['workload']}. {outcome['title']}**", "MB/s" if timed else "wall s", "CPU s", "peak RSS MB"]
    head += ["system calls"] if counted else []
    lines = ["", row(head), row(["---"] * len(head))]
    for name, figures in outcome["tools"].items():
        first = rate(figures) if timed else spread(figures["wall"])
        cells = [name, first, spread(figures["cpu"]), f"{figures['rss']['median']:.1f}"]
        if counted:
            cells.append(str(figures["calls"]["total"]) if "calls" in figures else "")
        lines.append(row(cells))
    return "\n".join([*lines, "", verdict(outcome)])


def line(outcome):
    """One workload without figures: what brought every byte."""
    names = [name for name in outcome["tools"] if not name.startswith("floor")]
    return f"{outcome['workload']}. {outcome['title']}: every byte by {', '.join(names)}"


def rate(figures):
    found = figures["rate"]
    return f"{found['median'] / 1e6:.1f} ({found['min'] / 1e6:.1f} to {found['max'] / 1e6:.1f})"


def verdict(outcome):
    """The ratios in words."""
    said = []
    for measure, found in outcome["ratios"].items():
        text = f"{measure} {found['ratio']:.2f} of {found['best']}"
        if measure in outcome["target"]:
            target = outcome["target"][measure]
            met = found["ratio"] >= target if measure == "rate" else found["ratio"] <= target
            text += f" (target {'≥' if measure == 'rate' else '≤'} {target}: {'met' if met else 'missed'})"
        said.append(text)
    return "haul: " + ", ".join(said) if said else ""


def row(cells):
    return "| " + " | ".join(cells) + " |"


def spread(figures):
    return f"{figures['median']:.2f} ({figures['min']:.2f} to {figures['max']:.2f})"
