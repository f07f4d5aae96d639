from medssl.reports.ontology import read_ontology
from medssl.reports.sentence_findings import sentence_findings


def test_each_sentence_is_read_for_itself():
    said = [
        "No pleural effusion.",
        "Lung nodule, possible pleural effusion.",
        "",
        "The table was moved.",
    ]
    found = sentence_findings(said, read_ontology("chest_ct"))
    assert found == [{"pleural_effusion": 0}, {"lung_nodule": 1, "pleural_effusion": -1}, {}, {}]
