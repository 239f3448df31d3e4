// Every text that can be seen, and its contrast with what is behind it (WCAG 2.2, 1.4.3): what is below, in words.
(() => {
  const channel = (c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  const parse = (text) => (text.match(/[\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => 0.2126 * channel(r / 255) + 0.7152 * channel(g / 255) + 0.0722 * channel(b / 255);
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || (colour.length === 4 && colour[3] === 1)) return colour;
      if (getComputedStyle(at).backgroundImage !== "none") return null;
    }
    return [255, 255, 255];
  };
  const under = (node) => {
    const x = Number(node.getAttribute("x")), y = Number(node.getAttribute("y")) - 4;
    const boxes = [...node.ownerSVGElement.querySelectorAll("rect")].filter((r) => {
      const left = Number(r.getAttribute("x")), top = Number(r.getAttribute("y"));
      return x >= left && x <= left + Number(r.getAttribute("width")) && y >= top && y <= top + Number(r.getAttribute("height"));
    });
    return boxes.length ? parse(getComputedStyle(boxes[boxes.length - 1]).fill) : behind(node.ownerSVGElement);
  };
  const faults = [];
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
    if (!own || ["TITLE", "DESC", "OPTION", "title", "desc"].includes(node.tagName)) continue;
    if (node.getClientRects().length === 0 || node.closest(".hidden, .skip")) continue;
    const style = getComputedStyle(node), drawn = node instanceof SVGElement;
    const ground = drawn ? under(node) : behind(node);
    if (!ground) continue;
    const [a, b] = [light(parse(drawn ? style.fill : style.color)), light(ground)].sort((p, q) => q - p);
    const size = parseFloat(style.fontSize), bold = Number(style.fontWeight) >= 700;
    const least = size >= 24 || (bold && size >= 18.66) ? 3 : 4.5;
    const found = (a + 0.05) / (b + 0.05);
    if (found < least) faults.push(`${node.tagName} ${node.textContent.trim().slice(0, 30)}: ${found.toFixed(2)}`);
  }
  return faults;
})();
