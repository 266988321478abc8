"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  let playing = true, tracks = false, parsed = false;
  const near = new Set(), points = new Map();

  // Videos: taken out of the text of the page when they come near the screen, put back when far.
  function attach(video) {
    if (video.src) return;
    const held = byId("v" + video.dataset.v);
    if (!held) return; // not parsed yet: see DOMContentLoaded
    const bytes = Uint8Array.from(atob(held.textContent), (c) => c.charCodeAt(0));
    video.src = URL.createObjectURL(new Blob([bytes], { type: "video/mp4" }));
    if (playing) video.play().catch(() => {});
  }
  function detach(video) {
    if (!video.src) return;
    const old = video.src;
    video.pause();
    video.removeAttribute("src");
    video.load();
    URL.revokeObjectURL(old);
  }
  const watch = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) { near.add(entry.target); attach(entry.target); }
      else { near.delete(entry.target); detach(entry.target); }
    }
  }, { rootMargin: "400px" });
  document.querySelectorAll("video").forEach((video) => watch.observe(video));
  document.addEventListener("DOMContentLoaded", () => { parsed = true; near.forEach(attach); });

  byId("play").addEventListener("click", (event) => {
    playing = !playing;
    event.target.textContent = playing ? "Pause" : "Play";
    near.forEach((video) => playing ? video.play().catch(() => {}) : video.pause());
  });

  // Tracks: where points are in the frame that is shown, with what they came through before.
  function pointsOf(number) {
    const held = byId("t" + number);
    if (!points.has(number) && (held || parsed)) {
      points.set(number, held ? JSON.parse(held.textContent) : null);
    }
    return points.get(number);
  }
  const TAIL = 8;
  function draw() {
    for (const video of near) {
      const canvas = video.nextElementSibling, pen = canvas.getContext("2d");
      pen.clearRect(0, 0, canvas.width, canvas.height);
      const found = tracks && pointsOf(video.dataset.v);
      if (!found) continue;
      found.points.forEach((row, index) => {
        const now = Math.min(Math.floor(video.currentTime * found.fps + 0.01), row.length / 2 - 1);
        if (row[2 * now] < 0) return;
        pen.strokeStyle = pen.fillStyle = `hsl(${(index * 137) % 360} 90% 60%)`;
        pen.lineWidth = 1.5;
        pen.beginPath();
        for (let i = Math.max(0, now - TAIL); i <= now; i++) {
          if (row[2 * i] >= 0) pen.lineTo(row[2 * i], row[2 * i + 1]);
        }
        pen.stroke();
        pen.beginPath();
        pen.arc(row[2 * now], row[2 * now + 1], 2, 0, 7);
        pen.fill();
      });
    }
    if (tracks) requestAnimationFrame(draw);
  }
  if (byId("tracks")) {
    byId("tracks").addEventListener("change", (event) => { tracks = event.target.checked; draw(); });
  }

  // The table sorts, and the videos with it.
  const table = byId("table"), body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  function sort(column, head) {
    const down = head.getAttribute("aria-sort") === "ascending";
    const text = head.dataset.text === "1";
    const value = (row) => {
      const cell = row.cells[column];
      return text ? cell.textContent : cell.dataset.n === undefined ? null : Number(cell.dataset.n);
    };
    const rows = [...body.rows].map((row) => [value(row), row]);
    rows.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null); // what is missing is last
      const order = text ? a.localeCompare(b, undefined, { numeric: true }) : a - b;
      return down ? -order : order;
    });
    heads.forEach((one) => one.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    body.append(...rows.map(([, row]) => row));
    byId("cases").append(...new Set(rows.map(([, row]) => byId("c" + row.dataset.case))));
  }
  heads.forEach((head, column) => {
    head.firstElementChild.addEventListener("click", () => sort(column, head));
  });
  body.addEventListener("click", (event) => {
    const row = event.target.closest("tr"), article = byId("c" + row.dataset.case);
    document.querySelectorAll(".here").forEach((one) => one.classList.remove("here"));
    article.classList.add("here");
    article.scrollIntoView();
  });
})();
