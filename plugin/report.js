for (const slider of document.querySelectorAll("input[data-sets]")) {
  const stage = slider.closest("section").querySelector(".stage.judged");
  const apply = () => stage.style.setProperty(slider.dataset.sets, slider.value + (slider.dataset.unit || ""));
  slider.addEventListener("input", apply);
  apply();
}
