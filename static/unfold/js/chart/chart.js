// In place of the theme's Chart.js, 200 KB: no page of ours has a chart of that kind.
