"""The options of `handgrad results`."""

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.options import Csv, Json, one_format, refuse, whole


def results(
    where: Annotated[
        list[str] | None,
        typer.Option(
            help="Rows that fulfil it, as side=manual or 'test_accuracy>=0.98'; repeat for more."
        ),
    ] = None,
    sort: Annotated[list[str] | None, typer.Option(help="By this column; repeat for more.")] = None,
    descending: Annotated[
        bool, typer.Option("--descending", help="The largest, or the newest, first.")
    ] = False,
    last: Annotated[
        int | None, typer.Option(help="Only the last so many, once sorted.", **whole(1))
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option(help="Show this one; repeat for more.")
    ] = None,
    compare: Annotated[
        list[int] | None,
        typer.Option(help="The number of a row: show where it differs; repeat.", **whole(1)),
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(help="Mean and spread for each value of this column; repeat for more."),
    ] = None,
    plot: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="X Y", help="Draw column Y against column X into the folder."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder that holds runs.csv.")] = Path("results"),
    json: Json = False,
    csv: Csv = False,
) -> int:
    """What all runs of bench, homework and trust came to: a row for each run and side, with
    machine, versions, seed, settings and the project's git state.

    Shows, sorts and filters the rows, sets some side by side, or plots one column against another.
    Exit status 1 where no row fulfils what is asked for."""
    one_format(json, csv)
    if compare:
        given = {"by": by, "where": where, "sort": sort, "column": column, "last": last}
        refuse([name for name, value in given.items() if value], "has no meaning with --compare")
        compare = once(compare)
        if len(compare) < 2:
            raise typer.BadParameter("--compare: expected two different rows or more, got one")
    if by:
        refuse(["column"] * bool(column), "has no meaning with --by")

    from benchmarks.runs import command
    from benchmarks.runs.select import SelectError

    query = command.Query(
        where or [],
        once(sort),
        descending,
        last,
        once(column),
        once(compare),
        once(by),
        plot,
    )
    try:
        return command.results(out, query, json, csv)
    except SelectError as error:
        raise typer.BadParameter(str(error)) from None


def once(values: list | None) -> list:
    """Each of them, in order, however often it was given."""
    return list(dict.fromkeys(values or []))
