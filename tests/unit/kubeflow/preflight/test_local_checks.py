"""What `doctor` says of the data that are prepared in the project; the other checks are tested with the command."""

from tests.support.doctor_case import ROOT, case, line
from twofold.kubeflow.preflight import local_checks
from twofold.promotion.attainable_gates import UnattainableGate


def test_gates_that_no_model_can_pass_on_the_prepared_test_warn(tmp_path, monkeypatch, capsys):
    def find(data, sections):
        assert data == ROOT / "data" / "prepared"
        return [UnattainableGate(gate.figure, "seen", "add images") for gate in sections["register"].gates[:1]]

    monkeypatch.setattr(local_checks, "find_in_prepared", find)
    with case(tmp_path, monkeypatch, capsys) as cluster:
        assert line(cluster.run(), "register.gates") == ("warning", "roc_auc: seen", "add images")
