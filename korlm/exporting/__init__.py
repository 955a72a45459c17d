r"""Export trained models for other programs: safetensors, ONNX, int8.

After ``python -m korlm.export run=DIR output=export`` the following scores a sentence without
PyTorch or korlm:

    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession("export/step.onnx")
    with open("export/vocab.tsv", encoding="utf-8") as file:
        ids = {line.split("\t")[0]: number for number, line in enumerate(file)}
    token_id = int(session.get_modelmeta().custom_metadata_map["start_id"])
    state, nats, sentence = dict(np.load("export/begin.npz")), 0.0, "나 는 학교 에 가 ㄴ다 . <eos>"
    for token in sentence.split():
        inputs = {"ids": np.array([token_id], dtype=np.int64), **state}
        log_probs, *after = session.run(None, inputs)
        state, token_id = dict(zip(state, after)), ids.get(token, ids["<unk>"])
        nats -= log_probs[0, token_id]
    print(f"{nats:.3f} nats, perplexity {np.exp(nats / len(sentence.split())):.2f}")
"""
