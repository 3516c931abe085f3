// A button that copies the text of the part it stands in; hidden where the browser cannot.
(function () {
  "use strict";
  Array.prototype.forEach.call(document.querySelectorAll("button[data-copy]"), function (button) {
    var source = document.getElementById(button.getAttribute("data-copy"));
    var said = button.nextElementSibling;
    button.hidden = false;
    button.addEventListener("click", function () {
      var done = function (worked) {
        said.textContent = worked ? "Copied." : "The browser did not allow it; the text is marked, copy it by hand.";
      };
      var range = document.createRange();
      range.selectNodeContents(source);
      window.getSelection().removeAllRanges();
      window.getSelection().addRange(range);
      if (navigator.clipboard && navigator.clipboard.writeText) { // absent on pages that are opened as files in some browsers
        navigator.clipboard.writeText(source.innerText).then(function () { done(true); }, function () { done(document.execCommand("copy")); });
      } else {
        done(document.execCommand("copy"));
      }
    });
  });
}());
