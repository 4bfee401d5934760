// What is known of a run, from its events. No page, no network: events in, state out.

export function newRun() {
  return { editId: "", startedAt: 0, sampling: {}, candidates: new Map(), decisions: [], result: null, saved: 0, done: 0 };
}

const number = (value) => (value === undefined ? null : Number(value));

export function scoreOf(critique) {
  const overall = critique?.scores?.overall;
  if (!overall || overall.status !== "SCORE_STATUS_SCORED") return null;
  return { value: overall.value || 0, stddev: overall.stddev || 0 };
}

// Takes one RefineResponse; returns the id of the candidate that it was about, or "".
export function take(run, event) {
  const at = (id) => {
    if (!run.candidates.has(id)) run.candidates.set(id, fresh(id));
    return run.candidates.get(id);
  };
  if (event.started) {
    run.editId = event.started.editId;
    run.sampling = event.started.sampling || {};
    run.engine = event.started.engine || {};
    run.critic = event.started.searchCritic || {};
  } else if (event.candidateStarted) {
    const told = event.candidateStarted, one = at(told.candidateId);
    Object.assign(one, { seed: number(told.seed), parent: told.parentCandidateId || "", action: told.action || "", state: "running" });
    return one.id;
  } else if (event.preview) {
    const one = at(event.preview.candidateId);
    one.fraction = event.preview.progress?.fraction || 0;
    one.preview = event.preview.image ? { image: event.preview.image, region: event.preview.region } : one.preview;
    return one.id;
  } else if (event.critique) {
    const one = at(event.critique.candidateId);
    if (event.critique.progress) one.promised = event.critique;
    else one.critique = event.critique;
    return one.id;
  } else if (event.candidateFinished) {
    const one = at(event.candidateFinished.candidateId);
    Object.assign(one, { state: one.state === "dropped" ? "dropped" : "finished", fraction: 1, image: event.candidateFinished.image });
    return one.id;
  } else if (event.decision) {
    return decide(run, event.decision, at);
  } else if (event.candidateError) {
    const one = at(event.candidateError.candidateId);
    Object.assign(one, { state: "failed", reason: event.candidateError.status?.message || "it failed" });
    return one.id;
  } else if (event.result) {
    run.result = event.result;
    run.saved = Number(event.result.savedEvaluationCount || 0);
    const id = event.result.candidateId || "";
    if (id && event.result.image) Object.assign(at(id), { image: event.result.image, critique: event.result.critique, isBest: true });
    return id;
  }
  return "";
}

function fresh(id) {
  return { id, seed: null, parent: "", action: "", state: "running", fraction: 0, preview: null, image: null, critique: null, promised: null, reason: "", isBest: false, isRejected: false };
}

function decide(run, decision, at) {
  const kind = (decision.kind || "").replace("DECISION_KIND_", "").toLowerCase();
  run.decisions.push({ kind, candidate: decision.candidateId || "", reason: decision.reason || "" });
  if (!decision.candidateId) return "";
  const one = at(decision.candidateId);
  if (kind === "drop") Object.assign(one, { state: "dropped", reason: decision.reason || "" });
  if (kind === "recall") Object.assign(one, { state: "running", reason: "" });
  return one.id;
}

// Best first; those without a score after those with one, dropped and rejected ones last.
export function ranked(run) {
  const place = (one) => (one.isRejected ? 3 : one.state === "failed" ? 3 : one.state === "dropped" ? 2 : scoreOf(one.critique) ? 0 : 1);
  const value = (one) => (scoreOf(one.critique) || scoreOf(one.promised) || { value: -1 }).value;
  return [...run.candidates.values()].sort((a, b) => b.isBest - a.isBest || place(a) - place(b) || value(b) - value(a));
}

export function stateText(one) {
  const share = `${Math.round(100 * one.fraction)} %`;
  if (one.isRejected) return "rejected";
  if (one.state === "dropped") return `dropped at ${share}`;
  if (one.state === "failed") return "failed";
  if (one.isBest) return "best";
  if (one.state === "finished") return scoreOf(one.critique) ? "judged" : one.critique ? "not scored" : "being judged";
  return one.fraction ? share : "starting";
}

export function why(one) {
  if (one.reason) return one.reason;
  const seen = one.critique || one.promised;
  if (!seen) return "";
  const overall = seen.scores?.overall;
  if (overall?.status === "SCORE_STATUS_ABSTAINED") return overall.abstentionDetail || "The critic abstains.";
  return seen.defects?.[0]?.explanation || seen.explanation || "";
}
