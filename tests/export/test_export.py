def test_x(run_dir):
    import json
    print((run_dir/"output.jsonl").read_text()); print((run_dir/"errors.jsonl").read_text()); print(json.loads((run_dir/"score.json").read_text())|{"by_subject":0,"by_category":0}); print((run_dir/"calls.jsonl").read_text()[:700])
    from mmlu_pipe.reporting.export import export_run
    for f in ("csv","parquet"): print(export_run(run_dir,f).read_bytes().decode("utf-8","replace")[:4000])
    import duckdb
    print(duckdb.sql(f"from '{run_dir}/lines.parquet'").fetchall())
