"""The same Predictor behind LitServe, as its documents show it: python benchmarks/litserve_peer.py MODEL PORT.

Images as files of form data to POST /predict, in batches by the service's own defaults, by one worker. Run by benchmarks/serving.py in an
environment of LitServe's own, which finds vitreous in that of the benchmark.
"""

import sys
from typing import Any

import litserve  # type: ignore[missing-import]

import vitreous


class Classifier(litserve.LitAPI):
    """Takes an image's file; answers with the prediction."""

    def setup(self, device: Any) -> None:
        self.predictor = vitreous.load(sys.argv[1], device="cpu", progress=False)

    def decode_request(self, request) -> bytes:  # LitServe goes by what is annotated here
        return request["request"].file.read()

    def predict(self, x: list[bytes]) -> list[dict[str, Any]]:
        return [one.to_dict() for one in self.predictor(x)]

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        return output


if __name__ == "__main__":
    server = litserve.LitServer(Classifier(max_batch_size=32, batch_timeout=0.002), accelerator="cpu", timeout=60)
    server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False, log_level="warning")
