; editcritic for GIMP 2.10: opens GIMP to `editcritic gimp`, and says how that is used.

(define (editcritic-serve port)
  (plug-in-script-fu-server RUN-NONINTERACTIVE "127.0.0.1" port ""))

(define (script-fu-editcritic-open)
  (gimp-message (string-append
    "editcritic may now reach this GIMP, and so may every program on this machine, until GIMP ends.\n\n"
    "In a terminal:  editcritic gimp judge\n"
    "or:  editcritic gimp edit -p \"a red ball\""))
  (editcritic-serve 10008))

(script-fu-register "script-fu-editcritic-open"
  "Let editcritic in"
  "Starts the Script-Fu server on this machine (127.0.0.1:10008), which editcritic gimp speaks to"
  "The editcritic authors" "Apache-2.0" "2026" "")
(script-fu-menu-register "script-fu-editcritic-open" "<Image>/Filters/editcritic")

(define (script-fu-editcritic-help)
  (gimp-message (string-append
    "1. Select a region, or choose a layer that was edited.\n"
    "2. Filters > editcritic > Let editcritic in, once.\n"
    "3. In a terminal:\n"
    "   editcritic gimp judge\n"
    "   editcritic gimp edit -p \"a red ball\"\n"
    "What comes back is a layer.")))

(script-fu-register "script-fu-editcritic-help"
  "How to judge and edit"
  "What to type to have a region judged or edited"
  "The editcritic authors" "Apache-2.0" "2026" "")
(script-fu-menu-register "script-fu-editcritic-help" "<Image>/Filters/editcritic")
