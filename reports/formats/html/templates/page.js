"use strict";
document.querySelectorAll("button.copy").forEach(function (button) {
  button.hidden = false;
  button.addEventListener("click", function () {
    var table = button.parentElement.querySelector("table");
    var rows = table && Array.from(table.rows, function (row) {
      return Array.from(row.cells, function (cell) { return cell.innerText.replace(/\s+/g, " ").trim(); }).join("\t");
    });
    var area = document.createElement("textarea");
    area.value = table ? rows.join("\n") : button.parentElement.querySelector("pre").textContent;
    document.body.appendChild(area);
    area.select();
    var done = document.execCommand("copy");
    area.remove();
    button.focus();
    button.textContent = done ? "Copied" : "Select it and copy it by hand";
  });
});
window.addEventListener("beforeprint", function () {
  document.querySelectorAll("details").forEach(function (part) { part.open = true; });
});
function reveal() {
  var target = location.hash && document.getElementById(location.hash.slice(1));
  if (target && target.tagName === "DETAILS") { target.open = true; target.scrollIntoView(); }
}
window.addEventListener("hashchange", reveal);
reveal();
