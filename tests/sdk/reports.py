"""What the SDKs' flows report of what their apps saw."""


def everything(report):
    """Every list and object in a report, in order; what is inside of one before itself."""
    if isinstance(report, (dict, list)):
        for item in report.values() if isinstance(report, dict) else report:
            yield from everything(item)
        yield report
