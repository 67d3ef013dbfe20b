"""The results as a table, for the terminal and for the README."""

from .paths import PLOT, README, REPOSITORY
from .results import median, spread
from .scenarios import FIGURES, SYNCS

BEGIN = "<!-- benches/compare: begin -->"
END = "<!-- benches/compare: end -->"


def number(value):
    """A number as people read it: three digits that matter."""
    if value is None:
        return "failed"
    if value >= 1000:
        digits = len(f"{value:.0f}")
        return f"{round(value, 3 - digits):,.0f}"
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"


def ratio(figure, ours, theirs):
    """How many times better Millpond is."""
    if not ours or not theirs:
        return ""
    times = ours / theirs if figure.more_is_better else theirs / ours
    return f"{number(times)} x"


def rows(results):
    """Title with unit, both medians, ratio, and both spreads, for each figure that was measured."""
    for figure in FIGURES:
        samples = results["samples"].get(figure.name)
        if samples is None:
            continue
        ours, theirs = median(samples["Millpond"]), median(samples["RabbitMQ"])
        spreads = [_range(spread(samples[name])) for name in ("Millpond", "RabbitMQ")]
        yield f"{figure.title} ({figure.unit})", number(ours), number(theirs), ratio(figure, ours, theirs), spreads


def _range(ends):
    return "" if ends is None else f"{number(ends[0])} to {number(ends[1])}"


def terminal(results):
    """The table with the spread of the samples."""
    lines = [f"{'':<62} {'Millpond':>12} {'RabbitMQ':>12} {'better':>10}   samples"]
    for title, ours, theirs, better, spreads in rows(results):
        lines.append(f"{title:<62} {ours:>12} {theirs:>12} {better:>10}   {' / '.join(spreads)}")
    return "\n".join([*lines, "", *_remarks(results)])


def markdown(results):
    """The README's table."""
    version = results["conditions"]["rabbitmq"]
    lines = [f"| | Millpond | RabbitMQ {version} | better |", "|---|---:|---:|---:|"]
    for title, ours, theirs, better, _ in rows(results):
        lines.append(f"| {title} | {ours} | {theirs} | {better} |")
    plot = PLOT.relative_to(REPOSITORY)
    return "\n".join([*lines, "", f"![The rates as bars, on a logarithmic scale]({plot})", "", *_remarks(results)])


def _remarks(results):
    conditions = results["conditions"]
    return [
        f"Medians of {_counted(conditions['pairs'], 'turn')} of each broker, in alternation, {conditions['seconds']} s a run; broker and"
        " load generator share the machine.",
        f"{conditions['cores']} cores of {conditions['cpu']}, {conditions['memory_gib']} GiB, Linux {conditions['kernel']},"
        f" {conditions['date']}.",
        f"Both brokers as they come, speaking STOMP 1.2; RabbitMQ {conditions['rabbitmq']} with its STOMP plugin and"
        " durable classic queues.",
        "Receipts: at most 1,000 unanswered. Acks: client mode, one for 100, prefetch 2,000. One producer and one consumer"
        " unless the line says otherwise; 100 queues have 4 producers and 100 consumers.",
        "Transient runs stop at the latest 20 s after publishing; what still waits then counts as published only.",
        *_disk(results),
    ]


def _counted(count, noun):
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _disk(results):
    """What the disk and the store do by themselves."""
    store = f"the store by itself takes {number(results['store_per_second'])} messages of 1 KiB a second, 1,000 in flight."
    times = []
    for figure in SYNCS:
        samples = results["samples"].get(figure.name)
        if samples is not None:
            times.append(f"{number(median([*samples['Millpond'], *samples['RabbitMQ']]))} us {figure.title.split(', ')[1]}")
    syncs = f"Writing 4 KiB and syncing takes {' and '.join(times)} (medians); " if times else ""
    line = syncs + store
    return [line[0].upper() + line[1:]]


def write_readme(results):
    """Puts the table between its markers in the README. False if the markers are not there."""
    text = README.read_text()
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        return False
    README.write_text(f"{head}{BEGIN}\n{markdown(results)}\n{END}{tail}")
    return True
