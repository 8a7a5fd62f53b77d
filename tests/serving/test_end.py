"""How the command ends by a signal that comes before the service handles them."""

import signal

from vitreous.cli.main import main
from vitreous.errors import Signalled


def test_a_signal_before_the_models_answer_ends_the_service_well(tmp_path, monkeypatch, capfd):
    def interrupt(self, sockets):
        raise Signalled(signal.SIGTERM)

    monkeypatch.setattr("vitreous.serving.server.Server.run", interrupt)
    assert main(["serve", str(tmp_path), "--port", "0"]) == 0
    assert "serving at " in capfd.readouterr().err
