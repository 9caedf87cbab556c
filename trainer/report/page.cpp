#include "trainer/report/page.h"

#include <fmt/format.h>

#include "chart/svg.h"
#include "chart/text.h"
#include "trainer/files/manifest.h"

namespace trainer {
namespace {

constexpr std::string_view kPageStyle = R"(
*{box-sizing:border-box}html{color-scheme:light dark}
body{margin:0 auto;max-width:1160px;padding:24px 16px 64px;background:var(--paper);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
h1{font-size:1.7rem;line-height:1.2;margin:.2em 0}h2{font-size:1.25rem;margin:2.2em 0 .6em;
padding-bottom:.25em;border-bottom:1px solid var(--rule)}p{max-width:75ch;margin:.6em 0;overflow-wrap:anywhere}
nav a{margin-right:1.2em}a{color:var(--c0)}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,430px),1fr));gap:20px;align-items:start}
figure{margin:0;padding:12px;border:1px solid var(--rule);border-radius:8px;min-width:0}
figcaption{color:var(--soft);font-size:.86rem;margin-top:4px}
.table{overflow-x:auto;margin:1.2em 0}table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
caption{text-align:left;font-weight:600;padding:4px 0 8px}
th,td{padding:5px 14px 5px 0;text-align:left;border-bottom:1px solid var(--rule);white-space:nowrap}
th{color:var(--soft);font-weight:600}.number{text-align:right}
th button{all:unset;cursor:pointer}th button:focus-visible{outline:2px solid var(--c0)}
th[aria-sort=ascending] button::after{content:" \2191"}th[aria-sort=descending] button::after{content:" \2193"}
footer{margin-top:48px;color:var(--soft);font-size:.86rem}
)";

// Without scripting the tables are what they are; with it, their heads become buttons.
constexpr std::string_view kSortScript = R"(
for(const table of document.querySelectorAll("table")){
 const heads=[...table.tHead.rows[0].cells],body=table.tBodies[0];
 heads.forEach((head,column)=>{
  const button=document.createElement("button");
  button.textContent=head.textContent;head.replaceChildren(button);
  button.addEventListener("click",()=>{
   const up=head.getAttribute("aria-sort")!=="ascending";
   heads.forEach(other=>other.removeAttribute("aria-sort"));
   head.setAttribute("aria-sort",up?"ascending":"descending");
   const key=row=>{const cell=row.cells[column];
    return cell.dataset.key===undefined?cell.textContent:Number(cell.dataset.key)};
   const order=(a,b)=>{const x=key(a),y=key(b);
    if(typeof x!==typeof y)return typeof x==="number"?-1:1;
    const sign=typeof x==="number"?x-y:x.localeCompare(y,undefined,{numeric:true});
    return up?sign:-sign};
   body.append(...[...body.rows].sort(order));
  });
 });
}
)";

std::string section_html(const ReportSection& section, size_t number) {
  std::string out =
      fmt::format("<section id=\"s{}\">\n<h2>{}</h2>\n", number, chart::escape(section.title));
  for (const std::string& paragraph : section.paragraphs)
    out += fmt::format("<p>{}</p>\n", chart::escape(paragraph));
  if (!section.figures.empty()) out += "<div class=\"figures\">\n";
  for (const Figure& figure : section.figures)
    out += fmt::format("<figure>{}<figcaption>{}</figcaption></figure>\n", figure.drawing,
                       chart::escape(figure.caption));
  if (!section.figures.empty()) out += "</div>\n";
  for (const NamedTable& table : section.tables) out += chart::to_html(table.table);
  return out + "</section>\n";
}

}  // namespace

chart::Cell loss_cell(double loss) { return chart::number_cell(loss, fmt::format("{:.4f}", loss)); }

std::string make_page(const std::string& title, const std::vector<ReportSection>& sections) {
  std::string links, body;
  for (size_t i = 0; i < sections.size(); ++i) {
    links += fmt::format("<a href=\"#s{}\">{}</a>\n", i, chart::escape(sections[i].title));
    body += section_html(sections[i], i);
  }
  return fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
      "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n"
      "<title>{0}</title>\n<style>{1}{2}</style>\n</head>\n<body>\n<h1>{0}</h1>\n<nav>{3}</nav>\n"
      "{4}<footer>mha2mla {5}. Each figure lies beside this file as SVG, each table as CSV and "
      "Markdown.</footer>\n<script>{6}</script>\n</body>\n</html>\n",
      chart::escape(title), chart::drawing_style(), kPageStyle, links, body, kProgramVersion,
      kSortScript);
}

}  // namespace trainer
