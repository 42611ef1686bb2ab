// What an answer or a chunk of one says, in one shape for chat and for plain completions.

/** {text, reasoning, tokens: [{id, text, logprob, top}], prompt (its ids), finish, observed} of an answer's first choice. */
export function read(answer) {
  const [choice] = answer.choices;
  const delta = choice.delta ?? choice.message ?? { content: choice.text };
  const { ids = [], observed } = choice.orrery ?? {};
  return {
    text: delta.content ?? "",
    reasoning: delta.reasoning_content ?? "",
    tokens: logprobs(choice.logprobs).map((token, i) => ({ id: ids[i], ...token })),
    prompt: answer.orrery?.prompt_ids,
    finish: choice.finish_reason,
    observed,
  };
}

function logprobs(said) {
  if (!said) return [];
  if (said.content) return said.content.map((t) => ({ text: spelled(t), logprob: t.logprob, top: t.top_logprobs.map(entry) }));
  return said.tokens.map((text, i) => ({
    text,
    logprob: said.token_logprobs[i],
    top: Object.entries(said.top_logprobs?.[i] ?? {})
      .map(([text, logprob]) => ({ text, logprob }))
      .sort((a, b) => b.logprob - a.logprob), // names that look like numbers come first in an object
  }));
}

const entry = (t) => ({ text: spelled(t), logprob: t.logprob });

/** A token's text, or its bytes where they are only part of a character. */
export function spelled({ token, bytes }) {
  if (!token.includes("\ufffd")) return token;
  return "⟨" + bytes.map((b) => b.toString(16).toUpperCase().padStart(2, "0")).join(" ") + "⟩";
}

/** A token as a person can see it: spaces and line ends get a sign. */
export const visible = (text) => (text ?? "").replace(/\n/g, "↵").replace(/\t/g, "⇥").replace(/ /g, "\u00b7") || "∅";
