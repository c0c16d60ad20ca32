#!/usr/bin/env python3
"""Asks one question of the traces of many hosts, as partition.py has put them.

    ask.py duckdb DIRECTORY [QUERY.sql]
    ask.py spark DIRECTORY [QUERY.sql]

The query, or question.sql beside this file, reads the table "calls". Its rows are printed with
tabs between the columns, whose names come first. Spark runs where spark-submit, or
PYSPARK_SUBMIT_ARGS='--master spark://HOST:7077 pyspark-shell', says; else on this machine.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Answer = tuple[list[str], Iterable[Any]]


def ask_duckdb(directory: Path, query: str) -> Answer:
    """The answer's columns and rows."""
    import duckdb

    files = str(directory / "*" / "*" / "*.parquet").replace("'", "''")
    settings = "union_by_name = true, hive_partitioning = true, hive_types_autocast = false"
    with duckdb.connect() as database:
        database.execute(f"CREATE VIEW calls AS FROM read_parquet('{files}', {settings})")
        answer = database.execute(query)
        return [column[0] for column in answer.description], answer.fetchall()


def ask_spark(directory: Path, query: str) -> Answer:
    """The answer's columns and rows."""
    from pyspark.sql import SparkSession

    settings = {
        "spark.sql.parquet.mergeSchema": "true",  # traces differ in their arguments' columns
        "spark.sql.sources.partitionColumnTypeInference.enabled": "false",  # "0012" is a name
    }
    spark = SparkSession.builder.appName("fleet").config(map=settings).getOrCreate()
    try:
        spark.read.parquet(str(directory)).createOrReplaceTempView("calls")
        answer = spark.sql(query)
        return answer.columns, answer.collect()
    finally:
        spark.stop()


def main() -> int:
    engines = {"duckdb": ask_duckdb, "spark": ask_spark}
    if len(sys.argv) not in (3, 4) or sys.argv[1] not in engines:
        print(__doc__, file=sys.stderr)
        return 2
    directory = Path(sys.argv[2])
    file = Path(sys.argv[3]) if len(sys.argv) == 4 else Path(__file__).parent / "question.sql"
    try:
        columns, rows = engines[sys.argv[1]](directory, file.read_text(encoding="utf-8"))
    except Exception as error:  # the file's, or the engine's own
        print(f"ask.py: {error}", file=sys.stderr)
        return 1
    print(*columns, sep="\t")
    for row in rows:
        print(*row, sep="\t")
    return 0


if __name__ == "__main__":
    sys.exit(main())
