// Sorts and searches the table of scans. A long table comes as data and shows a part of its rows at a time.
(function () {
  "use strict";
  var table = document.getElementById("scans");
  if (!table) { return; }
  var body = table.tBodies[0], heads = table.tHead.rows[0].cells, stored = document.getElementById("scans-data");
  var all = stored ? fromData(JSON.parse(stored.textContent)) : fromRows(), rows = all;
  var PART = 200, limit = stored ? PART : all.length;

  // A row is its sort keys, what a search looks through, and the element, made when it is first shown.
  function fromRows() {
    return Array.prototype.map.call(body.rows, function (row) {
      var keys = Array.prototype.map.call(row.cells, function (cell) { return cell.getAttribute("data-key"); });
      return { keys: keys, text: row.textContent.toLowerCase(), element: row };
    });
  }
  function fromData(data) {
    var left = {};
    data.left.forEach(function (place) { left[place] = true; });
    return data.rows.map(function (cells, place) {
      var keys = cells.map(function (cell) { return cell === "n/a" ? "" : cell.replace("\u2212", "-"); });
      var link = Array.isArray(data.links) ? data.links[place] : data.links && encodeURIComponent(cells[0]) + ".html";
      return { keys: keys, text: cells.join(" ").toLowerCase(), cells: cells, left: left[place], link: link };
    });
  }
  function element(row) {
    if (row.element) { return row.element; }
    row.element = document.createElement("tr");
    if (row.left) { row.element.className = "note"; }
    row.cells.forEach(function (cell, column) {
      var made = row.element.insertCell(), inner = made;
      made.className = heads[column].className;
      if (!column && row.link) {
        inner = made.appendChild(document.createElement("a"));
        inner.href = row.link;
      }
      inner.textContent = cell;
    });
    return row.element;
  }
  function show() {
    var words = needle.value.toLowerCase();
    var found = words ? rows.filter(function (row) { return row.text.indexOf(words) >= 0; }) : rows;
    var part = document.createDocumentFragment();
    found.slice(0, limit).forEach(function (row) { part.appendChild(element(row)); });
    body.textContent = "";
    body.appendChild(part);
    var whole = found.length <= limit;
    if (more) { more.hidden = whole; }
    hits.textContent = (words ? found.length + " of " + all.length : "") + (whole ? "" : " (the first " + limit + " are shown)");
  }

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
      rows = rows.slice().sort(function (a, b) {
        var x = a.keys[column], y = b.keys[column];
        if (x === "" || y === "") { return (x === "") - (y === ""); }
        return (down ? -1 : 1) * compare(x, y);
      });
      show();
    });
  });
  var box = document.getElementById("search"), needle = document.getElementById("needle"), hits = document.getElementById("hits");
  var more = document.getElementById("more"); // only where a long table comes as data
  box.hidden = false;
  needle.addEventListener("input", function () { limit = stored ? PART : all.length; show(); });
  if (more) { more.addEventListener("click", function () { limit += PART; show(); }); }
  if (stored) { show(); }
}());
