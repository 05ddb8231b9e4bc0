"use strict";
(function () {
  var dark = window.matchMedia("(prefers-color-scheme: dark)");
  var nodes = Array.prototype.slice.call(document.querySelectorAll("[data-chart]"));
  var isPrinting = false;

  function content(node) {
    var found = JSON.parse(document.getElementById(node.getAttribute("data-chart")).textContent);
    if (dark.matches && !isPrinting) {
      found.dark.forEach(function (change) {
        var path = change[0], place = found;
        for (var i = 0; i < path.length - 1; i += 1) { place = place[path[i]]; }
        place[path[path.length - 1]] = change[1];
      });
    }
    return found;
  }

  function draw(node) {
    var found = content(node);
    found.layout.width = isPrinting ? 690 : node.clientWidth;
    Plotly.react(node, found.data, found.layout, {displayModeBar: false, responsive: false, staticPlot: isPrinting});
  }

  function drawAll() { nodes.forEach(draw); }

  function print(begins) {
    if (begins) {
      Array.prototype.forEach.call(document.querySelectorAll("details[data-printed]:not([open])"), function (node) {
        node.setAttribute("data-was-closed", "");
        node.open = true;
      });
    } else {
      Array.prototype.forEach.call(document.querySelectorAll("details[data-was-closed]"), function (node) {
        node.removeAttribute("data-was-closed");
        node.open = false;
      });
    }
    isPrinting = begins;
    drawAll();
  }

  drawAll();
  dark.addEventListener("change", drawAll);
  window.addEventListener("beforeprint", function () { print(true); });
  window.addEventListener("afterprint", function () { print(false); });
  var waiting = 0;
  window.addEventListener("resize", function () {
    window.clearTimeout(waiting);
    waiting = window.setTimeout(function () { if (!isPrinting) { drawAll(); } }, 150);
  });
}());
