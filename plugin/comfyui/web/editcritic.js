// Score and reason on the nodes of editcritic: a badge in the title bar, and a line below the node.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

const GOOD = 75, FAIR = 50;

function colour(score) {
  if (score === null) return "#6b7280";
  const shown = Math.round(score);
  return shown >= GOOD ? "#15803d" : shown >= FAIR ? "#b45309" : "#b91c1c";
}

function label(entry) {
  const mark = entry.accepted === undefined ? "" : entry.accepted ? "✓ " : "✗ ";
  return mark + (entry.score === null ? "–" : Math.round(entry.score));
}

function wrapped(context, text, width, most) {
  const lines = [""];
  for (const word of text.split(/\s+/)) {
    const longer = `${lines.at(-1)} ${word}`.trim();
    if (context.measureText(longer).width > width && lines.at(-1)) lines.push(word);
    else lines[lines.length - 1] = longer;
  }
  if (lines.length > most) lines.splice(most, Infinity, "…");
  return lines;
}

function drawBadges(node, context, entries) {
  context.font = "bold 12px sans-serif";
  let right = node.size[0] - 8;
  for (const entry of entries.slice(0, 6).reverse()) {
    const text = label(entry), width = context.measureText(text).width + 12;
    context.fillStyle = colour(entry.score);
    context.beginPath();
    context.roundRect(right - width, -24, width, 18, 6);
    context.fill();
    context.fillStyle = "#ffffff";
    context.fillText(text, right - width + 6, -11);
    right -= width + 4;
  }
}

function drawReason(node, context, entry) {
  context.font = "12px sans-serif";
  const lines = wrapped(context, entry.reason ?? "", node.size[0] - 16, 4);
  context.fillStyle = "rgba(15, 23, 42, 0.85)";
  context.beginPath();
  context.roundRect(0, node.size[1] + 6, node.size[0], 12 + 16 * lines.length, 6);
  context.fill();
  context.fillStyle = "#f8fafc";
  lines.forEach((line, index) => context.fillText(line, 8, node.size[1] + 22 + 16 * index));
}

function draw(node, context) {
  const entries = node.editcritic;
  if (!entries?.length || node.flags?.collapsed) return;
  context.save();
  context.textAlign = "left";
  context.textBaseline = "alphabetic";
  drawBadges(node, context, entries);
  drawReason(node, context, entries[0]);
  context.restore();
}

app.registerExtension({
  name: "editcritic.badges",
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (nodeData.category !== "editcritic") return;
    const executed = nodeType.prototype.onExecuted;
    nodeType.prototype.onExecuted = function (message) {
      executed?.apply(this, arguments);
      this.editcritic = message?.editcritic ?? [];
      this.setDirtyCanvas(true, true);
    };
    const drawn = nodeType.prototype.onDrawForeground;
    nodeType.prototype.onDrawForeground = function (context) {
      drawn?.apply(this, arguments);
      draw(this, context);
    };
  },
  setup() {
    // While a node runs: the newest critique. What it returns in the end takes its place.
    api.addEventListener("editcritic.critique", ({ detail }) => {
      const node = app.graph?.getNodeById(Number(detail.node));
      if (!node) return;
      node.editcritic = [detail];
      node.setDirtyCanvas(true, true);
    });
  },
});
