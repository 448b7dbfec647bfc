
// Sorts the rows of the table by a column when its heading is pressed; rows without a value stay last.
(() => {
const body = document.querySelector("#scores tbody");
const heads = [...document.querySelectorAll("#scores thead th")];
heads.forEach((head, column) => {
  head.querySelector("button").onclick = () => {
    const natural = head.dataset.better === "higher" ? "descending" : "ascending"; // the best first
    const other = natural === "ascending" ? "descending" : "ascending";
    const order = head.getAttribute("aria-sort") === natural ? other : natural;
    const sign = order === "ascending" ? 1 : -1;
    const key = (row) => row.children[column].dataset.value;
    const compare = (a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === "" || y === "") return (x === "") - (y === "");
      return sign * (column === 0 ? x.localeCompare(y) : Number(x) - Number(y));
    };
    heads.forEach((h) => h.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", order);
    body.append(...[...body.rows].sort(compare));
  };
});
})();
