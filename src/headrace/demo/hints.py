"""What can one try while the demo is kept serving?"""

from __future__ import annotations

import json

from rich.console import Console

from headrace.demo.formats import DEFAULT, NAMED, SPARSE
from headrace.demo.topics import DemoTopics
from headrace.server.run import Serving


def print_hints(
    console: Console,
    serving: Serving,
    bootstrap_servers: str,
    topics: DemoTopics,
    is_broker_embedded: bool,
) -> None:
    """Print the addresses, and a command each for curl, qdrant-client and kcat."""
    hawaii = {"must": [{"key": "state", "match": {"value": "HI"}}]}
    body = {"query": 1, "filter": hawaii, "limit": 3, "with_payload": ["name", "city"]}
    field = {"collection_name": SPARSE, "id": 10_000, "payload": {"name": "My field"}}
    # Tansu's answer to older ones reads to them as one that ends too early.
    kcat_needs = " (`kcat -V` must say librdkafka 2.2 or newer)" if is_broker_embedded else ""
    lines = (
        "",
        "Everything keeps serving until Ctrl-C:",
        f"  REST    {serving.rest_url}",
        f"  gRPC    {serving.grpc_address}",
        f"  Kafka   {bootstrap_servers}, topics {topics.airports} and {topics.dead_letters}",
        f"  data    {serving.data}",
        "",
        "curl: the airports of Hawaii that are most like number 1",
        f"  curl -s {serving.rest_url}/collections/{DEFAULT}/points/query "
        f"-H 'Content-Type: application/json' -d '{json.dumps(body)}'",
        "qdrant-client: the airports nearest to number 1",
        '  python -c "from qdrant_client import QdrantClient; '
        f"print(QdrantClient('{serving.rest_url}').query_points('{NAMED}', query=1, "
        "using='place', limit=3).points)\"",
        f"kcat: send an airport of your own, searchable a moment later{kcat_needs}",
        f"  echo '{json.dumps(field)}' | kcat -P -b {bootstrap_servers} -t {topics.airports}",
        "",
    )
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)
