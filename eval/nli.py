"""A model of natural-language inference as the judge of whether facts support a sentence, as in ALCE.

Gao et al. 2023, "Enabling Large Language Models to Generate Text with Citations", section 3: the premise is the facts,
joined by a space, the hypothesis the sentence. It is supported if entailment is the likeliest of the model's labels.
"""

from collections.abc import Sequence

import torch
from tqdm import tqdm
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from data_prep.errors import InputError
from data_prep.reader import Conversation
from eval.judging import Supports, plain_sentences

ENTAILMENT = "entailment"
BATCH = 32

Pair = tuple[str, str]  # premise and hypothesis


class NliJudge:
    """Called with conversations, gives the judge of each one's reply, its last turn; no pair is asked about twice.

    ``model``: a sequence classifier, by folder or hub id. Raises InputError if there is none, or if none or several of
    its labels are called entailment.
    """

    def __init__(self, model: str):
        try:
            labels = AutoConfig.from_pretrained(model).id2label
            entailment = [number for number, label in labels.items() if label.lower() == ENTAILMENT]
            if len(entailment) != 1:
                raise InputError(
                    f"{model} has the labels {', '.join(labels.values())}; name a model that calls one {ENTAILMENT}."
                )
            self._tokenizer = AutoTokenizer.from_pretrained(model)
            self._model = AutoModelForSequenceClassification.from_pretrained(model, dtype=torch.float32).eval()
        except (OSError, ValueError):
            raise InputError(
                f"There is no NLI model at {model}; give its folder, or a mirror with HF_ENDPOINT=."
            ) from None
        self._name, [self._entailment] = model, entailment
        # Neither is right for every model: some tokenizers know no length, and RoBERTa has two positions to spare.
        self._length = min(self._tokenizer.model_max_length, self._model.config.max_position_embeddings)
        self._entailed: dict[Pair, bool] = {}

    def __call__(self, conversations: Sequence[Conversation]) -> list[Supports]:
        """Asks at once about each sentence with each fact of its speaker's card, which is most of what is needed.

        A pair that is longer than the model reads is refused: cut, it would have a verdict on another text.
        Raises InputError then; so do the judges.
        """
        pairs = []
        for conversation in conversations:
            reply = conversation.turns[-1]
            sentences = filter(None, plain_sentences(reply.text))
            pairs += [(fact, sentence) for sentence in sentences for fact in conversation.cards[reply.side]]
        self._ask(pairs)
        return [self.supports] * len(conversations)

    def supports(self, sentence: str, facts: Sequence[str]) -> bool:
        """No facts support nothing, and nothing said is not supported."""
        if not sentence or not facts:
            return False
        pair = (" ".join(facts), sentence)
        self._ask([pair])
        return self._entailed[pair]

    def _ask(self, pairs: Sequence[Pair]) -> None:
        """Only about those that are new."""
        new = sorted({*pairs} - self._entailed.keys(), key=lambda pair: (sum(map(len, pair)), pair))
        with tqdm(total=len(new), desc="entailment", unit="pair", disable=len(new) <= BATCH) as bar:
            for start in range(0, len(new), BATCH):
                batch = new[start : start + BATCH]
                self._entailed.update(zip(batch, self._verdicts(batch), strict=True))
                bar.update(len(batch))

    @torch.inference_mode()
    def _verdicts(self, pairs: Sequence[Pair]) -> list[bool]:
        # Not before it is needed: until then the GPU is for the models that are judged.
        self._model.to("cuda" if torch.cuda.is_available() else "cpu")
        premises, hypotheses = zip(*pairs, strict=True)
        read = self._tokenizer([*premises], [*hypotheses], padding=True, return_tensors="pt")
        longest = read["input_ids"].shape[1]
        if longest > self._length:
            raise InputError(
                f"A sentence with its facts has {longest} tokens, but {self._name} reads {self._length}; name a model"
                f" that reads more, or leave the reply out: {max(hypotheses, key=len)[:60]!r}..."
            )
        logits = self._model(**read.to(self._model.device)).logits
        return (logits.argmax(-1) == self._entailment).tolist()
