(function () {
  "use strict";
  var table = document.getElementById("scans");
  if (!table) { return; }
  var body = table.tBodies[0], rows = Array.prototype.slice.call(body.rows), heads = table.tHead.rows[0].cells;
  function key(row, column) { return row.cells[column].getAttribute("data-key"); }
  function compare(a, b) {
    var x = Number(a), y = Number(b);
    if (!isNaN(x) && !isNaN(y)) { return x - y; }
    return a.localeCompare(b, undefined, { numeric: true });
  }
  Array.prototype.forEach.call(heads, function (head, column) {
    var button = document.createElement("span"); // a real button is not painted in the repeated head of a printed table
    button.setAttribute("role", "button");
    button.tabIndex = 0;
    button.textContent = head.textContent;
    head.textContent = "";
    head.appendChild(button);
    button.addEventListener("keydown", function (event) {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); button.click(); }
    });
    button.addEventListener("click", function () {
      var down = head.getAttribute("aria-sort") === "ascending";
      Array.prototype.forEach.call(heads, function (other) { other.removeAttribute("aria-sort"); });
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      rows.sort(function (a, b) {
        var x = key(a, column), y = key(b, column);
        if (x === "" || y === "") { return (x === "") - (y === ""); }
        return (down ? -1 : 1) * compare(x, y);
      });
      rows.forEach(function (row) { body.appendChild(row); });
    });
  });
  var box = document.getElementById("search"), needle = document.getElementById("needle"), hits = document.getElementById("hits");
  box.hidden = false;
  needle.addEventListener("input", function () {
    var words = needle.value.toLowerCase(), shown = 0;
    rows.forEach(function (row) {
      row.hidden = row.textContent.toLowerCase().indexOf(words) < 0;
      if (!row.hidden) { shown += 1; }
    });
    hits.textContent = words ? shown + " of " + rows.length : "";
  });
}());
