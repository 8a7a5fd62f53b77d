"""The same Predictor behind Gradio: python benchmarks/gradio_peer.py MODEL PORT.

Images as JSON to POST /gradio_api/run/predict, one at a time; without the queue, which would ask for three requests an image. Run by
benchmarks/serving.py in an environment of Gradio's own, which finds vitreous in that of the benchmark.
"""

import sys
from typing import Any

import gradio  # type: ignore[missing-import]

import vitreous

if __name__ == "__main__":
    predictor = vitreous.load(sys.argv[1], device="cpu", progress=False)

    def predict(image: Any) -> dict[str, float]:
        return dict(predictor(image).top)

    with gradio.Blocks(analytics_enabled=False) as app:
        image, label, button = gradio.Image(type="pil"), gradio.Label(), gradio.Button()
        button.click(predict, image, label, api_name="predict", queue=False)
    app.launch(server_name="127.0.0.1", server_port=int(sys.argv[2]), quiet=True)
